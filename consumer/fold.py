"""Step 6 of a batch: events and what is stored, folded into what is to be written; pure.

One event after the other, so that each audit entry names the event that caused it. An event
that raises is set aside alone: state is replaced, never changed in place, so nothing of it
sticks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from consumer.billing.facts import NO_FACTS, FactSet, decode_facts, encode_facts
from consumer.billing.merge import merge
from consumer.billing.outcome import (
    AuditEntry,
    audit_backfill,
    audit_changes,
    audit_rows,
    why_unchanged,
)
from consumer.billing.projection import Projection, project
from consumer.decode import Incoming, describe
from consumer.fetched import Fetched, tells_nothing_new
from consumer.storage.dead_letters import DeadLetter, Reason, storable
from consumer.storage.ledger import Row, StoredCustomer, StoredSubscription
from consumer.storage.rows import array_literal
from schemas.plans import Plans


class Subscription(msgspec.Struct, frozen=True):
    """A subscription while a batch is folded; None as projection: it is not stored yet."""

    subscription_id: str
    customer_id: str
    facts: FactSet = NO_FACTS
    projection: Projection | None = None
    version: int = 0


@dataclass(slots=True)
class Changes:
    """What a batch writes: rows by column name, and what else follows from them."""

    events: list[Row] = field(default_factory=list)
    subscriptions: list[Row] = field(default_factory=list)
    customers: list[Row] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    changed_customers: list[str] = field(default_factory=list)
    unmapped: int = 0
    ambiguous: int = 0


class _Step(msgspec.Struct, frozen=True):
    """What one event does: an outcome, and the state to go on with."""

    outcome: str
    reason: str | None = None
    subscription: Subscription | None = None
    customer: StoredCustomer | None = None
    audit: tuple[AuditEntry, ...] = ()


class Fold:
    """Folds the events of one batch into the customers and subscriptions that are stored."""

    def __init__(
        self,
        plans: Plans,
        grace: timedelta,
        customers: Mapping[str, StoredCustomer],
        subscriptions: Mapping[str, StoredSubscription],
    ) -> None:
        self._plans = plans
        self._grace = grace
        self._customers = dict(customers)
        self._stored = subscriptions
        self._subscriptions: dict[str, Subscription] = {}
        self._changed_subscriptions: set[str] = set()
        self._changed_customers: set[str] = set()
        self._changes = Changes()

    def add(self, incoming: Incoming, *, failed_before: bool) -> None:
        """Fold one event; never raises: an event that makes our code raise is set aside."""
        if incoming.error is not None:
            self._fail(incoming, Reason.HANDLER, incoming.error)
            return
        try:
            step = self._decide(incoming)
        except Exception as error:  # noqa: BLE001 - one event must not stop the others
            self._fail(incoming, Reason.HANDLER, describe(error))
            return
        self._take(incoming, step)
        if failed_before:
            self._changes.resolved.append(incoming.event.id)

    def refuse(self, incoming: Incoming, why: str, *, record: bool) -> None:
        """Set aside an event whose data PostgreSQL refused, recorded as failed if that goes."""
        self._fail(incoming, Reason.DATA, why, record=record)

    def learn(self, fetched: Fetched, *, is_backfill: bool) -> None:
        """Fold what Stripe's API says of an object; no event stands recorded for it."""
        customer = self._customers[fetched.customer]
        linked = _link_reference(customer, fetched.reference, fetched.created_at, fetched.id)
        if linked is not None:
            self._bump(linked)
        for entry in linked_entries(customer, linked):
            self._note(fetched, entry)
        if not fetched.facts or fetched.subscription is None:
            return
        before = self._subscription(fetched.subscription, fetched.customer)
        if tells_nothing_new(before.facts, fetched):
            return
        after = self._merge(before, fetched.facts)
        self._take_subscription(after)
        if after.version != before.version:
            for entry in _learned(before, after, is_backfill=is_backfill):
                self._note(fetched, entry)

    def changes(self) -> Changes:
        """Return all that is to be written; call it once, after the last event."""
        changes = self._changes
        for subscription_id in sorted(self._changed_subscriptions):
            changes.subscriptions.append(subscription_row(self._subscriptions[subscription_id]))
        for customer_id in sorted(self._changed_customers):
            changes.customers.append(customer_row(self._customers[customer_id]))
        changes.changed_customers = sorted(self._changed_customers)
        return changes

    # --- one event

    def _decide(self, incoming: Incoming) -> _Step:
        reading, customer = incoming.reading, self._customers.get(incoming.customer or "")
        linked = _link_reference(
            customer, reading.reference, incoming.created_at, incoming.event.id
        )
        entries = linked_entries(customer, linked)
        if reading.fact is None or reading.subscription is None or customer is None:
            outcome, why = ("applied", None) if linked else ("ignored", reading.why_none)
            return _Step(outcome, why, customer=linked, audit=entries)
        before = self._subscription(reading.subscription, customer.customer_id)
        after = self._merge(before, frozenset({reading.fact}))
        assert after.projection is not None  # noqa: S101 - for the type checker
        row_before = before.projection.row if before.projection else None
        if after.facts != before.facts:
            entries += tuple(
                audit_changes(
                    row_before, after.projection.row, reading.fact, before.facts, after.facts
                )
            )
        if row_before == after.projection.row and linked is None:
            why_not = why_unchanged(reading.fact, after.facts, after.projection)
            return _Step("unchanged", why_not, after, audit=entries)
        return _Step("applied", None, after, linked, entries)

    def _merge(self, before: Subscription, new: FactSet) -> Subscription:
        facts = merge(before.facts, new)
        if facts == before.facts and before.projection is not None:
            return before
        projection = project(facts, self._plans, self._grace)
        changed = before.projection is None or before.projection.row != projection.row
        return Subscription(
            before.subscription_id,
            before.customer_id,
            facts,
            projection,
            before.version + changed,
        )

    def _subscription(self, subscription_id: str, customer_id: str) -> Subscription:
        """Return a subscription as folded so far, else as stored, else a new one."""
        known = self._subscriptions.get(subscription_id)
        if known is None:
            stored = self._stored.get(subscription_id)
            if stored is None:
                return Subscription(subscription_id, customer_id)
            facts = decode_facts(stored.facts)
            known = Subscription(
                subscription_id,
                stored.customer_id,
                facts,
                project(facts, self._plans, self._grace),
                stored.version,
            )
            self._subscriptions[subscription_id] = known
        return known

    def _take(self, incoming: Incoming, step: _Step) -> None:
        """Go on from what the event did."""
        if step.subscription is not None:
            self._take_subscription(step.subscription)
        if step.customer is not None:
            self._bump(step.customer)
        self._changes.events.append(_event_row(incoming, step.outcome, step.reason))
        for entry in step.audit:
            self._changes.audit.append(_audit_row(incoming, entry))

    def _take_subscription(self, after: Subscription) -> None:
        before = self._subscriptions.get(after.subscription_id)
        if before is after:
            return
        self._subscriptions[after.subscription_id] = after
        self._changed_subscriptions.add(after.subscription_id)
        if before is None or before.version != after.version:
            owner = self._customers.get(after.customer_id)
            if owner is not None:
                self._bump(owner)
        if after.projection is not None:
            self._changes.unmapped += not after.projection.mapped
            self._changes.ambiguous += after.projection.row.ambiguous

    def _note(self, fetched: Fetched, entry: AuditEntry) -> None:
        self._changes.audit.append(
            audit_row(
                entry,
                event_id=fetched.id,
                customer=fetched.customer,
                subscription=fetched.subscription,
                created=fetched.created_at,
            )
        )

    def _bump(self, customer: StoredCustomer) -> None:
        latest = self._customers[customer.customer_id]
        self._customers[customer.customer_id] = replace(customer, version=latest.version + 1)
        self._changed_customers.add(customer.customer_id)

    def _fail(self, incoming: Incoming, reason: Reason, why: str, *, record: bool = True) -> None:
        letter = DeadLetter(incoming.record, reason, why, incoming.event.id, incoming.customer)
        self._changes.letters.append(letter)
        if record:
            self._changes.events.append(_event_row(incoming, "failed", reason, why))


def _learned(before: Subscription, after: Subscription, *, is_backfill: bool) -> list[AuditEntry]:
    assert after.projection is not None  # noqa: S101 - for the type checker
    row_before = before.projection.row if before.projection else None
    audit = audit_backfill if is_backfill else audit_rows
    return audit(row_before, after.projection.row)


def _link_reference(
    customer: StoredCustomer | None, reference: str | None, at: datetime, event_id: str
) -> StoredCustomer | None:
    """Return the customer with this reference, if it is the one of least (time, id)."""
    if customer is None or reference is None:
        return None
    new = (at, event_id)
    if customer.reference_created_at is not None and (
        (customer.reference_created_at, customer.reference_event_id or "") <= new
    ):
        return None
    return replace(
        customer,
        reference=reference,
        reference_created_at=at,
        reference_event_id=event_id,
    )


def linked_entries(
    before: StoredCustomer | None, after: StoredCustomer | None
) -> tuple[AuditEntry, ...]:
    """Return the audit entry of a reference that changed, if it did."""
    if before is None or after is None or before.reference == after.reference:
        return ()
    old, new = {"reference": before.reference}, {"reference": after.reference}
    return (AuditEntry("reference_linked", old, new),)


def _event_row(
    incoming: Incoming, outcome: str, reason: str | None, error: str | None = None
) -> Row:
    event, record = incoming.event, incoming.record
    return {
        "event_id": event.id,
        "type": event.type,
        "customer_id": incoming.customer,
        "created_at": incoming.created_at,
        "received_at": incoming.received_at,
        "livemode": event.livemode,
        "api_version": event.api_version,
        "outcome": outcome,
        "reason": reason,
        "error": None if error is None else storable(error),
        "topic": record.topic,
        "partition": record.partition,
        "kafka_offset": record.offset,
        "payload": incoming.payload,
    }


def customer_row(customer: StoredCustomer) -> Row:
    """Return the row that stands for a customer."""
    return {
        "customer_id": customer.customer_id,
        "reference": customer.reference,
        "reference_created_at": customer.reference_created_at,
        "reference_event_id": customer.reference_event_id,
        "version": customer.version,
    }


def subscription_row(subscription: Subscription) -> Row:
    """Return the row that stands for a subscription; it has a projection."""
    assert subscription.projection is not None  # noqa: S101 - for the type checker
    row = subscription.projection.row
    return {
        "subscription_id": subscription.subscription_id,
        "customer_id": subscription.customer_id,
        "status": row.status,
        "tier": row.tier,
        "prices": array_literal(row.prices),
        "cancel_at_period_end": row.cancel_at_period_end,
        "cancel_at": row.cancel_at,
        "current_period_end": row.current_period_end,
        "latest_invoice": row.latest_invoice,
        "grace_until": row.grace_until,
        "ambiguous": row.ambiguous,
        "facts": encode_facts(subscription.facts),
        "version": subscription.version,
    }


def _audit_row(incoming: Incoming, entry: AuditEntry) -> Row:
    return audit_row(
        entry,
        event_id=incoming.event.id,
        customer=incoming.customer,
        subscription=incoming.reading.subscription,
        created=incoming.created_at,
    )


def audit_row(
    entry: AuditEntry,
    *,
    event_id: str,
    customer: str | None,
    subscription: str | None,
    created: datetime,
) -> Row:
    """Return the row of an audit entry; a reference belongs to the customer alone."""
    return {
        "event_id": event_id,
        "customer_id": customer,
        "subscription_id": None if entry.action == "reference_linked" else subscription,
        "action": entry.action,
        "before": msgspec.json.encode(entry.before).decode(),
        "after": msgspec.json.encode(entry.after).decode(),
        "event_created_at": created,
    }
