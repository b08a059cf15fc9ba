"""What one event did, read off the sets and rows before and after it; pure."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from consumer.billing.facts import ENDED, Fact, FactSet, Invoice, Snapshot
from consumer.billing.projection import Projection, Row


class Unchanged(StrEnum):
    """Why an event changed nothing; stands in webhook_events.reason."""

    ALREADY_ENDED = "already_ended"
    """The subscription had ended, or ends later than this says."""
    SUPERSEDED = "superseded"
    """Newer snapshots are known."""
    NOT_LATEST_INVOICE = "not_latest_invoice"
    """A newer invoice decides, or something better is known of this one."""
    SAME_FACT = "same_fact"
    """The row said so already."""


class AuditEntry(msgspec.Struct, frozen=True):
    """One change; `before` and `after` hold just the fields that changed."""

    action: str
    before: dict[str, Any]
    after: dict[str, Any]


def why_unchanged(fact: Fact, after: FactSet, projection: Projection) -> Unchanged:
    """Say why a fact did not change the row; `after` is the merged set."""
    ended = any(isinstance(kept, Snapshot) and kept.is_ended for kept in after)
    if ended and fact not in after:
        return Unchanged.ALREADY_ENDED
    if isinstance(fact, Invoice) and (fact not in after or fact.invoice != projection.judged):
        return Unchanged.NOT_LATEST_INVOICE
    if isinstance(fact, Snapshot) and fact not in after:
        return Unchanged.SUPERSEDED
    return Unchanged.SAME_FACT


def audit_changes(
    before: Row | None, after: Row, fact: Fact, known: FactSet, merged: FactSet
) -> list[AuditEntry]:
    """Return the entries of one event, in the order in which an administrator reads them."""
    entries = audit_rows(before, after)
    if _is_new_failure(fact, known, merged):
        assert isinstance(fact, Invoice)  # noqa: S101 - for the type checker
        entries.insert(0, AuditEntry("payment_failed", {}, {"invoice": fact.invoice}))
    return entries


def audit_rows(before: Row | None, after: Row) -> list[AuditEntry]:
    """Return the entries that two rows alone tell, whatever made the second of the first."""
    entries = _beginnings(after) if before is None else _changes(before, after)
    return entries + _grace_changes(before.grace_until if before else None, after.grace_until)


def audit_backfill(before: Row | None, after: Row) -> list[AuditEntry]:
    """Return the one entry of a row that was brought up to what Stripe's API says.

    One, and of its own name: whoever acts on the trail must not greet subscribers of years.
    """
    changed = [
        name
        for name in Row.__struct_fields__
        if before is None or getattr(before, name) != getattr(after, name)
    ]
    old = {} if before is None else {name: _plain(before, name) for name in changed}
    return [AuditEntry("backfilled", old, {name: _plain(after, name) for name in changed})]


def _is_new_failure(fact: Fact, known: FactSet, merged: FactSet) -> bool:
    return (
        isinstance(fact, Invoice)
        and not fact.paid
        and fact in merged
        and not any(isinstance(old, Invoice) and old.invoice == fact.invoice for old in known)
    )


def _beginnings(row: Row) -> list[AuditEntry]:
    """Return the entries of a subscription first heard of; its end may be what came first."""
    fields = ("status", "tier", "prices", "cancel_at_period_end", "cancel_at", "current_period_end")
    started = AuditEntry("subscription_started", {}, {name: _plain(row, name) for name in fields})
    if row.status not in ENDED:
        return [started]
    return [started, AuditEntry("subscription_ended", {}, {"status": row.status})]


def _changes(before: Row, after: Row) -> list[AuditEntry]:
    entries = []
    for action, names in (
        ("subscription_ended" if after.status in ENDED else "status_changed", ("status",)),
        ("tier_changed", ("tier", "prices")),
        ("period_renewed", ("current_period_end",)),
        (_cancellation(after), ("cancel_at_period_end", "cancel_at")),
    ):
        changed = [name for name in names if getattr(before, name) != getattr(after, name)]
        if changed and (action != "tier_changed" or before.tier != after.tier):
            entries.append(_entry(action, before, after, changed))
    return entries


def _cancellation(after: Row) -> str:
    set_now = after.cancel_at_period_end or after.cancel_at is not None
    return "cancellation_scheduled" if set_now else "cancellation_withdrawn"


def _grace_changes(before: datetime | None, after: datetime | None) -> list[AuditEntry]:
    if before == after:
        return []
    action = "grace_period_started" if after else "grace_period_cleared"
    return [
        AuditEntry(action, {"grace_until": _format(before)}, {"grace_until": _format(after)}),
    ]


def _entry(action: str, before: Row, after: Row, names: list[str]) -> AuditEntry:
    return AuditEntry(
        action,
        {name: _plain(before, name) for name in names},
        {name: _plain(after, name) for name in names},
    )


def _plain(row: Row, name: str) -> Any:
    value = getattr(row, name)
    if isinstance(value, datetime):
        return _format(value)
    return list(value) if isinstance(value, tuple) else value


def _format(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
