"""Contracts between processes: what two of them must agree on, and no I/O."""
