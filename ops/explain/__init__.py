"""`hookline explain`: what a customer may use, why, and what comes next, in words."""
