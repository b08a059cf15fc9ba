"""What recorded events say against what is stored: differences, and what mends them; pure.

Invariant: folding all recorded events again, in any order, into the stored facts changes
nothing. What retention dropped lives on in the stored facts, which are then kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumer.billing.facts import NO_FACTS, FactSet, decode_facts
from consumer.billing.outcome import AuditEntry, audit_rows
from consumer.billing.projection import Projection, Row, project
from consumer.fold import Subscription, audit_row, linked_entries, subscription_row
from consumer.recall import Memory
from consumer.storage.ledger import Row as Written
from consumer.storage.ledger import StoredCustomer
from schemas.plans import Plans

FIELDS = Row.__struct_fields__


@dataclass(frozen=True, slots=True)
class StoredState:
    """A row of subscriptions as it stands; `facts` is None where they cannot be read."""

    subscription_id: str
    customer_id: str
    row: Row
    facts: FactSet | None
    version: int

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "StoredState":
        """Read a whole row of the table."""
        try:
            facts = decode_facts(stored["facts"])
        except ValueError:
            facts = None
        row = Row(**{name: stored[name] for name in FIELDS} | {"prices": tuple(stored["prices"])})
        return cls(stored["subscription_id"], stored["customer_id"], row, facts, stored["version"])


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as the events say; None as subscription: of the customer's row."""

    subscription_id: str | None
    field: str
    stored: Any
    recomputed: Any


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One subscription as its events say it is, beside what is stored, if anything is."""

    subscription_id: str
    customer_id: str
    facts: FactSet
    projection: Projection | None
    """None where neither an event nor a readable fact is left: nothing can be said."""
    stored: StoredState | None

    @property
    def row(self) -> Row:
        """The row that is right; only where there is a projection."""
        assert self.projection is not None  # noqa: S101 - for the type checker
        return self.projection.row

    @property
    def differences(self) -> list[Difference]:
        """List the fields that differ, the facts last."""
        if self.projection is None:
            return [self._differs("facts", "unreadable, and no event is recorded", "unknown")]
        if self.stored is None:
            return [self._differs("row", "missing", self.projection.row)]
        new, old = self.projection.row, self.stored.row
        found = [
            self._differs(name, getattr(old, name), getattr(new, name))
            for name in FIELDS
            if getattr(old, name) != getattr(new, name)
        ]
        if self.stored.facts is None:
            found.append(self._differs("facts", "unreadable", self.facts))
        elif self.stored.facts != self.facts:
            found.append(self._differs("facts", self.stored.facts, self.facts))
        return found

    def _differs(self, name: str, stored: Any, recomputed: Any) -> Difference:
        return Difference(self.subscription_id, name, stored, recomputed)


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of one customer after folding again."""

    customer_id: str
    stored: StoredCustomer | None
    customer: StoredCustomer
    """The row with the reference that is right."""
    subscriptions: tuple[Recomputed, ...]
    events: int
    unreadable: tuple[tuple[str, str], ...]
    """Recorded events that cannot be read any more, each with why."""

    @property
    def differences(self) -> list[Difference]:
        """List every difference, the customer's own first."""
        found = [one for each in self.subscriptions for one in each.differences]
        if self.stored is None:
            return [Difference(None, "row", "missing", "present"), *found]
        if self.stored != self.customer:
            old, new = self.stored, self.customer
            if old.reference != new.reference:
                first = Difference(None, "reference", old.reference, new.reference)
            else:
                first = Difference(
                    None, "reference's event", old.reference_event_id, new.reference_event_id
                )
            found.insert(0, first)
        return found

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing differs and every recorded event can be read."""
        return not self.differences and not self.unreadable

    @property
    def owners(self) -> set[str]:
        """Return whose rows mending touches; a subscription may belong to another customer."""
        return {self.customer_id} | {
            each.customer_id for each in self.subscriptions if each.differences
        }


@dataclass(frozen=True, slots=True)
class Mending:
    """The rows that make one customer's stored state what the events say."""

    subscriptions: list[Written]
    customers: list[Written]
    audit: list[Written]


def recompute(
    memory: Memory,
    stored: StoredCustomer | None,
    rows: Iterable[StoredState],
    plans: Plans,
    grace: timedelta,
) -> Findings:
    """Compare a customer's events with the stored rows of its subscriptions.

    `rows` are the customer's own, and those of other customers that its events name.
    """
    known = {state.subscription_id: state for state in rows}
    found = []
    for subscription_id in sorted(memory.facts.keys() | known.keys()):
        state = known.get(subscription_id)
        owner = state.customer_id if state else memory.customer_id
        facts = memory.facts_with(subscription_id, (state.facts if state else None) or NO_FACTS)
        projection = project(facts, plans, grace) if facts else None
        found.append(Recomputed(subscription_id, owner, facts, projection, state))
    return Findings(
        memory.customer_id,
        stored,
        memory.reference_with(stored or StoredCustomer(memory.customer_id)),
        tuple(found),
        len(memory.recorded) + len(memory.unreadable),
        tuple((one.event.event_id, one.error or "") for one in memory.unreadable),
    )


def mend(findings: Findings, locked: Mapping[str, StoredCustomer], now: datetime) -> Mending:
    """Return what to write: each row that differs one version on, its owner's version, the trail.

    The trail's event is `recompute_` and the second, as no event of Stripe's caused the change.
    """
    event_id = f"recompute_{int(now.timestamp())}"
    customers = dict(locked) | {findings.customer_id: findings.customer}
    differing = [one for one in findings.subscriptions if one.differences and one.projection]
    linked = linked_entries(findings.stored, findings.customer)
    audit = [_entry_row(entry, event_id, now, findings.customer_id, None) for entry in linked]
    for one in differing:
        before = one.stored.row if one.stored else None
        audit += [
            _entry_row(entry, event_id, now, one.customer_id, one.subscription_id)
            for entry in audit_rows(before, one.row)
        ]
    return Mending(
        [_row(one) for one in differing],
        [_bumped(customers[owner]) for owner in sorted(findings.owners)],
        audit,
    )


def unmendable(findings: Findings) -> bool:
    """Tell whether something differs that no recorded event or fact can put right."""
    return bool(findings.unreadable) or any(
        one.projection is None for one in findings.subscriptions
    )


def tier_change(found: Sequence[Difference]) -> tuple[str, str] | None:
    """Return the tiers before and after where they alone differ: the plans file has changed."""
    if [one.field for one in found] != ["tier"]:
        return None
    return found[0].stored, found[0].recomputed


def _entry_row(
    entry: AuditEntry, event_id: str, now: datetime, customer: str, subscription: str | None
) -> Written:
    return audit_row(
        entry, event_id=event_id, customer=customer, subscription=subscription, created=now
    )


def _row(one: Recomputed) -> Written:
    version = one.stored.version if one.stored else 0
    return subscription_row(
        Subscription(one.subscription_id, one.customer_id, one.facts, one.projection, version + 1)
    )


def _bumped(customer: StoredCustomer) -> Written:
    return {
        "customer_id": customer.customer_id,
        "reference": customer.reference,
        "reference_created_at": customer.reference_created_at,
        "reference_event_id": customer.reference_event_id,
        "version": customer.version + 1,
    }
