"""Subscribers from before hookline, read from Stripe or an export and merged."""
