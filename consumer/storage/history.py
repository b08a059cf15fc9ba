"""What is recorded of customers, read back: events, rows, audit trail, dead letters; locks nothing.

Whoever compares events with rows reads them in one REPEATABLE READ transaction, or under the
customers' row locks: a batch that commits in between would look like a difference.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from consumer.storage.ledger import StoredCustomer

EVENTS_AT_ONCE = 200
"""Payloads in memory at a time; at most half a megabyte each."""

STATEMENT_TIMEOUT_MS = 60_000
"""A customer with all the traffic is read in one statement, which no batch waits for."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row of webhook_events; `payload` is the body as signed, compressed."""

    event_id: str
    type: str
    customer_id: str
    created_at: datetime
    received_at: datetime
    processed_at: datetime
    outcome: str
    reason: str | None
    error: str | None
    partition: int
    kafka_offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """A row of billing_audit."""

    event_id: str
    subscription_id: str | None
    action: str
    before: dict[str, Any]
    after: dict[str, Any]
    event_created_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """An open row of dead_letters."""

    dead_letter_id: int
    event_id: str | None
    reason: str
    error: str
    attempts: int
    first_failed_at: datetime


_PAGE = text("""
SELECT customer_id FROM customers WHERE customer_id > :after ORDER BY customer_id LIMIT :size
""")
# Asked once a run, for it reads the ids of all events; as a part of each page it would, each time.
_STRAYS = text("""
SELECT customer_id FROM (
  SELECT customer_id FROM webhook_events WHERE customer_id IS NOT NULL
  UNION SELECT customer_id FROM subscriptions
) AS named
WHERE NOT EXISTS (SELECT 1 FROM customers AS known WHERE known.customer_id = named.customer_id)
ORDER BY customer_id
""")
_EVENTS = text("""
SELECT event_id, type, customer_id, created_at, received_at, processed_at, outcome, reason, error,
  partition, kafka_offset, payload
FROM webhook_events WHERE customer_id = ANY(CAST(:ids AS text[]))
ORDER BY customer_id, created_at, event_id
""")
_CUSTOMERS = text("""
SELECT customer_id, reference, reference_created_at, reference_event_id, version
FROM customers WHERE customer_id = ANY(CAST(:ids AS text[]))
""")
_ROWS = text("""
SELECT subscription_id, customer_id, status, tier, prices, cancel_at_period_end, cancel_at,
  current_period_end, latest_invoice, grace_until, ambiguous, CAST(facts AS text) AS facts, version
FROM subscriptions
WHERE customer_id = ANY(CAST(:customers AS text[]))
   OR subscription_id = ANY(CAST(:subscriptions AS text[]))
ORDER BY subscription_id
""")
_TRAIL = text("""
SELECT event_id, subscription_id, action, coalesce(before, '{}') AS before,
  coalesce(after, '{}') AS after, event_created_at, recorded_at
FROM billing_audit WHERE customer_id = :customer ORDER BY audit_id
""")
_LETTERS = text("""
SELECT dead_letter_id, event_id, reason, error, attempts, first_failed_at
FROM dead_letters WHERE customer_id = :customer AND resolved_at IS NULL ORDER BY dead_letter_id
""")


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Open a read-only transaction in which every statement sees the same moment."""
    with engine.connect() as opened:
        connection = opened.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        with connection.begin():
            allow_long_statements(connection)
            yield connection


def allow_long_statements(connection: Connection) -> None:
    """Let the statements of the open transaction take longer than those of a batch."""
    connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))


def allow_endless_statements(connection: Connection) -> None:
    """Let the statements of the open transaction take as long as whole tables need."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))


def count_customers(connection: Connection) -> int:
    """Return how many customers there are."""
    return int(connection.scalar(text("SELECT count(*) FROM customers")) or 0)


def next_customers(connection: Connection, after: str, size: int) -> list[str]:
    """Return the next customers in the database's order of ids."""
    return list(connection.scalars(_PAGE, {"after": after, "size": size}))


def find_strays(connection: Connection) -> list[str]:
    """Return the customers that events or subscriptions name, and that have no row."""
    allow_endless_statements(connection)
    return list(connection.scalars(_STRAYS))


def stream_events(connection: Connection, customers: Collection[str]) -> Iterator[StoredEvent]:
    """Yield all recorded events of customers, each customer's together, in Stripe's order.

    Holds a part of them in memory at a time; other statements may run in between.
    """
    rows = connection.execute(
        _EVENTS,
        {"ids": sorted(customers)},
        execution_options={"stream_results": True, "yield_per": EVENTS_AT_ONCE},
    )
    for row in rows.mappings():
        yield StoredEvent(**row)


def load_customers(connection: Connection, customers: Collection[str]) -> dict[str, StoredCustomer]:
    """Return the rows of these customers; one without a row is absent."""
    rows = connection.execute(_CUSTOMERS, {"ids": sorted(customers)}).mappings()
    return {row["customer_id"]: StoredCustomer(**row) for row in rows}


def load_rows(
    connection: Connection, customers: Collection[str], subscriptions: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the whole rows of these customers' subscriptions, and of these subscriptions."""
    found = connection.execute(
        _ROWS, {"customers": sorted(customers), "subscriptions": sorted(subscriptions)}
    )
    return [dict(row) for row in found.mappings()]


def load_trail(connection: Connection, customer: str) -> list[TrailEntry]:
    """Return a customer's audit entries in the order in which they were written."""
    rows = connection.execute(_TRAIL, {"customer": customer}).mappings()
    return [TrailEntry(**row) for row in rows]


def load_open_letters(connection: Connection, customer: str) -> list[OpenLetter]:
    """Return what of a customer is set aside and waits for somebody."""
    rows = connection.execute(_LETTERS, {"customer": customer}).mappings()
    return [OpenLetter(**row) for row in rows]
