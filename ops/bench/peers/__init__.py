"""What one would write or install instead, with the same effects from the same events.

Each is a program of its own, run in fresh processes as hookline's are. `handler.py` is what all
of them do with one event; what differs is who reads Kafka, and what a transaction holds.
"""
