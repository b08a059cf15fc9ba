"""`hookline dead-letters`: what was set aside, looked at and tried again."""
