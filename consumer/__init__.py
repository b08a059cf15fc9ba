"""Kafka in, PostgreSQL and Redis out."""
