"""What is recorded of events, customers and subscriptions, read and written in SQL.

READ COMMITTED. A statement that waited for a row lock is followed by a new statement, which
sees what the other writer did; so no INSERT is merged with the SELECT … FOR UPDATE after it.
Every multi-row statement is sorted by key: two processes never wait for each other crosswise.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, TextClause, text

from consumer.storage.ledger import RecordedEvent, Row, StoredCustomer, StoredSubscription
from consumer.storage.rows import Rows

_ADD_CUSTOMERS = text("""
INSERT INTO customers (customer_id)
SELECT id FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id
ON CONFLICT DO NOTHING
""")
_LOCK_CUSTOMERS = text("""
SELECT customer_id, reference, reference_created_at, reference_event_id, version
FROM customers WHERE customer_id = ANY(:ids) ORDER BY customer_id FOR UPDATE
""")
# Bounded by created_at on both sides, or every partition would be searched.
_RECORDED = text("""
SELECT stored.event_id, stored.outcome, stored.api_version
FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[])) AS asked (event_id, created_at)
JOIN webhook_events AS stored USING (created_at, event_id)
WHERE stored.created_at BETWEEN :least AND :greatest
""")
_SUBSCRIPTIONS = text("""
SELECT subscription_id, customer_id, CAST(facts AS text) AS facts, version
FROM subscriptions WHERE subscription_id = ANY(CAST(:ids AS text[]))
""")
_EVENTS = Rows(
    event_id="text",
    type="text",
    customer_id="text",
    created_at="timestamptz",
    received_at="timestamptz",
    livemode="boolean",
    api_version="text",
    outcome="text",
    reason="text",
    error="text",
    topic="text",
    partition="int",
    kafka_offset="bigint",
    payload="bytea",
)
# Only a failed event is ever judged a second time.
_WRITE_EVENTS = _EVENTS.insert(
    "webhook_events",
    "ORDER BY new.created_at, new.event_id ON CONFLICT (created_at, event_id) DO UPDATE SET "
    "outcome = excluded.outcome, reason = excluded.reason, error = excluded.error, "
    "processed_at = clock_timestamp() WHERE webhook_events.outcome = 'failed'",
)
_SUBSCRIPTION_ROWS = Rows(
    subscription_id="text",
    customer_id="text",
    status="text",
    tier="text",
    prices="text[]",
    cancel_at_period_end="boolean",
    cancel_at="timestamptz",
    current_period_end="timestamptz",
    latest_invoice="text",
    grace_until="timestamptz",
    ambiguous="boolean",
    facts="jsonb",
    version="bigint",
)
_WRITE_SUBSCRIPTIONS = _SUBSCRIPTION_ROWS.insert(
    "subscriptions",
    "ORDER BY new.subscription_id ON CONFLICT (subscription_id) DO UPDATE SET "
    "(status, tier, prices, cancel_at_period_end, cancel_at, current_period_end, latest_invoice, "
    "grace_until, ambiguous, facts, version, updated_at) = (excluded.status, excluded.tier, "
    "excluded.prices, excluded.cancel_at_period_end, excluded.cancel_at, "
    "excluded.current_period_end, excluded.latest_invoice, excluded.grace_until, "
    "excluded.ambiguous, excluded.facts, excluded.version, now())",
)
_CUSTOMER_ROWS = Rows(
    customer_id="text",
    reference="text",
    reference_created_at="timestamptz",
    reference_event_id="text",
    version="bigint",
)
_WRITE_CUSTOMERS = text(f"""
UPDATE customers AS stored SET (reference, reference_created_at, reference_event_id, version,
  updated_at) = (new.reference, new.reference_created_at, new.reference_event_id, new.version,
  now())
FROM {_CUSTOMER_ROWS.source} WHERE stored.customer_id = new.customer_id
""")  # noqa: S608 - names from this file only
_AUDIT = Rows(
    event_id="text",
    customer_id="text",
    subscription_id="text",
    action="text",
    before="jsonb",
    after="jsonb",
    event_created_at="timestamptz",
)
_WRITE_AUDIT = _AUDIT.insert("billing_audit")


def lock_customers(connection: Connection, ids: Collection[str]) -> dict[str, StoredCustomer]:
    """Add the customers that are missing and lock all of them, in order."""
    if not ids:
        return {}
    connection.execute(_ADD_CUSTOMERS, {"ids": sorted(ids)})
    rows = connection.execute(_LOCK_CUSTOMERS, {"ids": sorted(ids)})
    return {row.customer_id: StoredCustomer(*row) for row in rows}


def find_recorded(
    connection: Connection, created: Mapping[str, datetime]
) -> dict[str, RecordedEvent]:
    """Return what stands recorded of these event ids, each with its `created`."""
    if not created:
        return {}
    rows = connection.execute(
        _RECORDED,
        {
            "ids": list(created),
            "times": list(created.values()),
            "least": min(created.values()),
            "greatest": max(created.values()),
        },
    )
    return {row.event_id: RecordedEvent(row.outcome, row.api_version) for row in rows}


def load_subscriptions(
    connection: Connection, ids: Collection[str]
) -> dict[str, StoredSubscription]:
    """Return the subscriptions of these ids that are stored."""
    if not ids:
        return {}
    rows = connection.execute(_SUBSCRIPTIONS, {"ids": sorted(ids)})
    return {row.subscription_id: StoredSubscription(*row) for row in rows}


def write_events(connection: Connection, rows: Sequence[Row]) -> None:
    """Record events with their outcome; one that had failed gets the new outcome."""
    _write(connection, _WRITE_EVENTS, _EVENTS, rows)


def write_subscriptions(connection: Connection, rows: Sequence[Row]) -> None:
    """Write subscriptions whose customers this transaction has locked."""
    _write(connection, _WRITE_SUBSCRIPTIONS, _SUBSCRIPTION_ROWS, rows)


def write_customers(connection: Connection, rows: Sequence[Row]) -> None:
    """Write customers that this transaction has locked."""
    _write(connection, _WRITE_CUSTOMERS, _CUSTOMER_ROWS, rows)


def write_audit(connection: Connection, rows: Sequence[Row]) -> None:
    """Append audit entries in the order given."""
    _write(connection, _WRITE_AUDIT, _AUDIT, rows)


def _write(
    connection: Connection, statement: TextClause, columns: Rows, rows: Sequence[Row]
) -> None:
    if rows:
        connection.execute(statement, columns.bind(rows))
