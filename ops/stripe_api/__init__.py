"""What hookline asks of Stripe's API: lists and single objects, never a change."""
