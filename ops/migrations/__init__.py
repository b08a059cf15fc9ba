"""Alembic migrations; `hookline migrate` runs them."""
