"""Code with a fault of ours, for forked consumers: what stands in for a part of them."""

import zlib
from dataclasses import dataclass

from consumer.billing.handlers import Reading, read_event
from schemas.stripe_event import StripeEvent


@dataclass(frozen=True, slots=True)
class RaisingReader:
    """Reads events as consumers do, and raises on one event id in so many, the same ones always."""

    one_in: int

    def __call__(self, event: StripeEvent) -> Reading:
        """Read an event, or raise."""
        if self.hits(event.id):
            raise ZeroDivisionError("a fault of ours")
        return read_event(event)

    def hits(self, event_id: str) -> bool:
        """Tell whether this event makes it raise."""
        return zlib.crc32(event_id.encode()) % self.one_in == 0


READER = "consumer.decode.read_event"
"""Where consumers look for it."""
