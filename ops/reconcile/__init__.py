"""Events that Stripe lists and hookline never recorded, found and sent through Kafka."""
