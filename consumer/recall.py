"""From recorded events back to what they told: decompressed, read again, folded again; pure.

The one place where recorded events are read: what `hookline recompute` compares and what
`hookline explain` tells are the same readings.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgspec.structs import replace

from consumer.billing.facts import NO_FACTS, FactSet
from consumer.billing.handlers import Reading, read_event
from consumer.billing.merge import merge
from consumer.decode import describe
from consumer.storage.history import StoredEvent
from consumer.storage.ledger import StoredCustomer
from schemas.payload import unpack
from schemas.stripe_event import decode_event

_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A recorded event and what it told; a failed one told nothing."""

    event: StoredEvent
    reading: Reading
    error: str | None = None
    """Why its payload cannot be read now, although it could when it was recorded."""


def recall(event: StoredEvent) -> Recalled:
    """Read a recorded event again; never raises."""
    if event.outcome == "failed":
        return Recalled(event, Reading(why_none=None))
    try:
        return Recalled(event, read_event(decode_event(unpack(event.payload))))
    except Exception as error:  # noqa: BLE001 - one event must not hide the others
        return Recalled(event, Reading(why_none=None), describe(error))


@dataclass(slots=True)
class Memory:
    """What a customer's recorded events say together, folded as they are added.

    Its size is that of the pruned facts and the event ids, however large the payloads were.
    """

    customer_id: str
    facts: dict[str, FactSet] = field(default_factory=dict)
    reference: StoredCustomer | None = None
    recorded: set[str] = field(default_factory=set)
    unreadable: list[Recalled] = field(default_factory=list)

    def add(self, recalled: Recalled, *, counts: bool = True) -> None:
        """Fold one event; one that does not count is known to be recorded, and tells nothing."""
        event, reading = recalled.event, recalled.reading
        if recalled.error is not None:
            # Not noted as recorded: the stored fact is then all that is left of it.
            self.unreadable.append(recalled)
            return
        self.recorded.add(event.event_id)
        if not counts:
            return
        if reading.fact is not None and reading.subscription is not None:
            known = self.facts.get(reading.subscription, NO_FACTS)
            self.facts[reading.subscription] = merge(known, frozenset({reading.fact}))
        if reading.reference is not None:
            self._link(
                StoredCustomer(
                    event.customer_id, reading.reference, event.created_at, event.event_id
                )
            )

    def facts_with(
        self, subscription_id: str, stored: FactSet, until: datetime | None = None
    ) -> FactSet:
        """Return what is known of a subscription: what its events say, and stored facts without.

        A stored fact whose event is recorded stands for that event and is not needed; where the
        event is gone (retention) the fact is the only memory of it. By the law of merge.py,
        facts that were stored rightly come out as they were.
        """
        return merge(
            self.facts.get(subscription_id, NO_FACTS),
            frozenset(
                fact
                for fact in stored
                if fact.id not in self.recorded and (until is None or fact.at <= until.timestamp())
            ),
        )

    def reference_with(self, stored: StoredCustomer) -> StoredCustomer:
        """Return the customer's row with the reference that is right, as `facts_with` does."""
        known = [self.reference] if self.reference else []
        if stored.reference_event_id and stored.reference_event_id not in self.recorded:
            known.append(stored)
        best = min(known, key=_age, default=StoredCustomer(stored.customer_id))
        return replace(best, version=stored.version)

    def _link(self, new: StoredCustomer) -> None:
        if self.reference is None or _age(new) < _age(self.reference):
            self.reference = new


def _age(customer: StoredCustomer) -> tuple[datetime, str]:
    return customer.reference_created_at or _LATEST, customer.reference_event_id or ""
