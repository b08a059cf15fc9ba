"""Stored subscriptions held against Stripe's present state, each difference explained."""
