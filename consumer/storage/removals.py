"""What was removed on purpose: months by retention, a customer's events by erasure, and the record.

Facts, rows and the audit trail stay: what a removed event told is kept, what it said is not. The
record lets checks tell what was removed from what was lost.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, text

from consumer.storage.partitions import OTHERS, month_name, month_of

ROWS_AT_ONCE = 5_000
LOCK_TIMEOUT = "1s"
"""Every writer waits behind whoever waits for this lock: rather try again."""


@dataclass(frozen=True, slots=True)
class Removals:
    """What is gone: events created before `retained_from`, and those of erased customers."""

    retained_from: datetime | None = None
    erased: Mapping[str, datetime] = field(default_factory=dict)

    def latest(self, customer: str | None = None) -> datetime | None:
        """Return up to when events are gone: those of a customer, or everybody's."""
        known = [at for at in (self.retained_from, self.erased.get(customer or "")) if at]
        return max(known, default=None)

    def covers(self, customer: str | None, created_at: datetime | None, known_at: datetime) -> bool:
        """Tell whether an event that was known by then may be gone on purpose."""
        erased_at = self.erased.get(customer or "")
        if erased_at is not None and known_at <= erased_at:
            return True
        oldest = created_at or known_at
        return self.retained_from is not None and oldest < self.retained_from


@dataclass(frozen=True, slots=True)
class Holding:
    """What is stored of one customer that an erasure removes."""

    events: int
    dead_letters: int
    reference: str | None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is left to remove."""
        return not (self.events or self.dead_letters or self.reference)


_RETAINED = text("SELECT max(created_before) FROM removals WHERE customer_id IS NULL")
_ERASED = text("""
SELECT customer_id, max(created_before) AS erased_at FROM removals
WHERE customer_id = ANY(CAST(:customers AS text[])) GROUP BY customer_id
""")
_RECORD = text("""
INSERT INTO removals (customer_id, created_before, events, dead_letters)
VALUES (:customer, coalesce(CAST(:before AS timestamptz), clock_timestamp()), :events, :letters)
""")
_MONTHS = text("""
SELECT child.relname FROM pg_inherits AS link
JOIN pg_class AS child ON child.oid = link.inhrelid
WHERE link.inhparent = CAST('webhook_events' AS regclass) ORDER BY child.relname
""")
_OLD_OTHERS = text(f"SELECT count(*) FROM {OTHERS} WHERE created_at < :before")  # noqa: S608 - our own name
_DROP_OTHERS = text(f"""
DELETE FROM {OTHERS} WHERE (created_at, event_id) IN (
  SELECT created_at, event_id FROM {OTHERS} WHERE created_at < :before
  ORDER BY created_at, event_id LIMIT :most)
""")  # noqa: S608 - our own name
_OLD_LETTERS = text("""
SELECT count(*) FROM dead_letters WHERE resolved_at < :before AND first_failed_at < :before
""")
_DROP_LETTERS = text("""
DELETE FROM dead_letters WHERE resolved_at < :before AND first_failed_at < :before
""")
_HOLDING = text("""
SELECT (SELECT count(*) FROM webhook_events WHERE customer_id = :customer) AS events,
  (SELECT count(*) FROM dead_letters WHERE customer_id = :customer) AS dead_letters,
  (SELECT reference FROM customers WHERE customer_id = :customer) AS reference
""")
_LOCK = text("SELECT 1 FROM customers WHERE customer_id = :customer FOR UPDATE")
_ERASE_EVENTS = text("DELETE FROM webhook_events WHERE customer_id = :customer")
_ERASE_LETTERS = text("DELETE FROM dead_letters WHERE customer_id = :customer")
_ERASE_REFERENCE = text("""
UPDATE customers SET reference = NULL, reference_created_at = NULL, reference_event_id = NULL,
  version = version + 1, updated_at = now()
WHERE customer_id = :customer AND reference_event_id IS NOT NULL
""")
_ERASE_TRAIL = text("""
DELETE FROM billing_audit WHERE customer_id = :customer AND action = 'reference_linked'
""")


def load_removals(connection: Connection, customers: Collection[str] = ()) -> Removals:
    """Return what is gone by retention, and by erasure of these customers."""
    rows = connection.execute(_ERASED, {"customers": sorted(customers)})
    erased = {row.customer_id: row.erased_at for row in rows}
    return Removals(connection.scalar(_RETAINED), erased)


def record_removal(
    connection: Connection, customer: str | None, before: datetime | None, holding: Holding
) -> None:
    """Leave the record of a removal in the open transaction; None as moment: now."""
    connection.execute(
        _RECORD,
        {
            "customer": customer,
            "before": before,
            "events": holding.events,
            "letters": holding.dead_letters,
        },
    )


# --- by month


def months_before(connection: Connection, first_kept: date) -> list[date]:
    """Return the months that have a table and lie before another one, the oldest first."""
    months = [month for name in connection.scalars(_MONTHS) if (month := month_of(name))]
    return sorted(month for month in months if month < first_kept)


def count_month(connection: Connection, month: date) -> int:
    """Return how many events a month's table holds."""
    return int(connection.scalar(text(f"SELECT count(*) FROM {month_name(month)}")) or 0)  # noqa: S608 - our own name


def drop_month(connection: Connection, month: date) -> None:
    """Drop a month's table, all events in it; the caller commits.

    Waits at most a second for whoever reads or writes events, and raises sqlalchemy's DBAPIError
    (lock_not_available) then.
    """
    name = month_name(month)
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"ALTER TABLE webhook_events DETACH PARTITION {name}"))
    connection.execute(text(f"DROP TABLE {name}"))


def count_others(connection: Connection, before: datetime) -> int:
    """Return how many events from before a moment stand outside the tables of months."""
    return int(connection.scalar(_OLD_OTHERS, {"before": before}) or 0)


def drop_others(connection: Connection, before: datetime) -> int:
    """Delete some of those events, and return how many; the caller commits and repeats."""
    return connection.execute(_DROP_OTHERS, {"before": before, "most": ROWS_AT_ONCE}).rowcount


def count_resolved_letters(connection: Connection, before: datetime) -> int:
    """Return how many dead letters were resolved before a moment."""
    return int(connection.scalar(_OLD_LETTERS, {"before": before}) or 0)


def drop_resolved_letters(connection: Connection, before: datetime) -> int:
    """Delete them, and return how many; open ones wait for somebody, however old."""
    return connection.execute(_DROP_LETTERS, {"before": before}).rowcount


# --- by customer


def find_holding(connection: Connection, customer: str) -> Holding:
    """Return what is stored of a customer that an erasure removes."""
    row = connection.execute(_HOLDING, {"customer": customer}).one()
    return Holding(row.events, row.dead_letters, row.reference)


def lock_customer(connection: Connection, customer: str) -> None:
    """Lock a customer's row against batches, if there is one; nobody is added."""
    connection.execute(_LOCK, {"customer": customer})


def erase_customer(connection: Connection, customer: str) -> None:
    """Remove a customer's events, dead letters and reference, whose row the caller has locked.

    What its subscriptions are, and the trail of how they came to be, stays; the entries about the
    reference go with it.
    """
    for statement in (_ERASE_EVENTS, _ERASE_LETTERS, _ERASE_REFERENCE, _ERASE_TRAIL):
        connection.execute(statement, {"customer": customer})
