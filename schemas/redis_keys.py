"""Redis keys and lifetimes that processes must agree on; no I/O.

Nothing in Redis is the truth: every key may vanish, or come back old, at any time.
"""

import msgspec

MARK_SECONDS = 4 * 24 * 3600
"""Longer than Stripe sends an event again (three days)."""

LOCK_SECONDS = 30
ENTITLEMENT_SECONDS = 300
LEASE_MILLISECONDS = 3000


def mark_key(event_id: str) -> str:
    """Return the key that says which record applied this event."""
    return f"webhook:event:{event_id}"


def lock_key(customer: str) -> str:
    """Return the key that says that somebody works on this customer."""
    return f"webhook:lock:{customer}"


def entitlement_key(generation: str, customer: str) -> str:
    """Return the key of a cached entitlement; the braces keep it in its lease's hash slot."""
    return f"entitlement:{generation}:{{{customer}}}"


def lease_key(generation: str, customer: str) -> str:
    """Return the key of the right to fill a cached entitlement."""
    return f"entitlement:lease:{generation}:{{{customer}}}"


class Mark(msgspec.Struct, frozen=True):
    """Which record applied an event: it counts only while the position backs it."""

    topic_id: str
    epoch: int
    partition: int
    offset: int

    def encode(self) -> str:
        """Return the value that stands in Redis."""
        return f"{self.topic_id}:{self.epoch}:{self.partition}:{self.offset}"

    @classmethod
    def decode(cls, value: str) -> "Mark | None":
        """Read a value back; None if it is not one of ours."""
        try:
            topic_id, epoch, partition, offset = value.rsplit(":", 3)
            return cls(topic_id, int(epoch), int(partition), int(offset))
        except ValueError:
            return None
