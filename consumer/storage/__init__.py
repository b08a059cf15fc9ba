"""The effects: transaction, marks, locks, invalidation, dead letters."""
