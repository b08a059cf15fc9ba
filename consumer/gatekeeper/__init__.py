"""The read side: what a customer may use now."""
