"""In-memory twins of PostgreSQL, Kafka and Redis, as far as a consumer can tell them apart.

Nothing in here knows what a batch is. tests/contract holds each twin and its real backend to the
same promises; tests/simulation runs the consumer against them.
"""
