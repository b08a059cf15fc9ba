"""Stripe in small: life cycles with a known outcome, as the demo, the load and the tests use."""
