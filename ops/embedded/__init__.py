"""Real Kafka, PostgreSQL and Valkey from packages, without root rights or Docker."""
