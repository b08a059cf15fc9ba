"""`hookline doctor`: looks at each part of a deployment, and says what is wrong."""
