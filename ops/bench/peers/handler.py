"""One event, one transaction: the handler that tutorials teach, with hookline's effects.

The same libraries, the same checks of signature and content, the same merge and the same rows,
so that what differs is the pattern alone: a round trip for each statement of each event, a
commit for each event, and the body as jsonb.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis

from consumer.billing.facts import NO_FACTS, decode_facts, encode_facts
from consumer.billing.handlers import read_event
from consumer.billing.merge import merge
from consumer.billing.outcome import audit_changes
from consumer.billing.projection import project
from consumer.records import Record
from schemas.envelope import header, received_at
from schemas.plans import load_plans
from schemas.redis_keys import LOCK_SECONDS, MARK_SECONDS, lock_key, mark_key
from schemas.signature import Refused, verify_recorded
from schemas.stripe_event import StripeEvent, customer_of, decode_event

PAYLOAD_AS_JSONB = "ALTER TABLE webhook_events ALTER COLUMN payload TYPE jsonb USING NULL"
"""What makes hookline's empty tables those of a tutorial."""

_EVENT = """
INSERT INTO webhook_events (event_id, type, customer_id, created_at, received_at, livemode,
  api_version, outcome, topic, partition, kafka_offset, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_CUSTOMER = "INSERT INTO customers (customer_id) VALUES (%s) ON CONFLICT DO NOTHING"
_LOCK = """
SELECT reference_created_at, reference_event_id FROM customers WHERE customer_id = %s FOR UPDATE
"""
_REFERENCE = """
UPDATE customers SET reference = %s, reference_created_at = %s, reference_event_id = %s,
  version = version + 1, updated_at = now() WHERE customer_id = %s
"""
_SUBSCRIPTION = "SELECT facts::text, version FROM subscriptions WHERE subscription_id = %s"
_WRITE = """
INSERT INTO subscriptions (subscription_id, customer_id, status, tier, prices,
  cancel_at_period_end, cancel_at, current_period_end, latest_invoice, grace_until, ambiguous,
  facts, version)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (subscription_id) DO UPDATE SET (status, tier, prices, cancel_at_period_end,
  cancel_at, current_period_end, latest_invoice, grace_until, ambiguous, facts, version,
  updated_at) = (excluded.status, excluded.tier, excluded.prices, excluded.cancel_at_period_end,
  excluded.cancel_at, excluded.current_period_end, excluded.latest_invoice,
  excluded.grace_until, excluded.ambiguous, excluded.facts, excluded.version, now())
"""
_VERSION = "UPDATE customers SET version = version + 1, updated_at = now() WHERE customer_id = %s"
_AUDIT = """
INSERT INTO billing_audit (event_id, customer_id, subscription_id, action, before, after,
  event_created_at) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


class Handler:
    """Applies events to PostgreSQL and Redis, one after the other."""

    def __init__(self) -> None:
        self._postgres = psycopg.connect(os.environ["HOOKLINE_DATABASE_URL"])
        self._redis = redis.Redis.from_url(os.environ["HOOKLINE_REDIS_URL"])
        self._secrets = os.environ["HOOKLINE_WEBHOOK_SECRETS"].split(",")
        self._plans = load_plans(Path(os.environ["HOOKLINE_PLANS_FILE"]))
        self._grace = timedelta(hours=float(os.environ["HOOKLINE_GRACE_HOURS"]))

    def handle(self, record: Record) -> None:
        """Apply one event in a transaction of its own; the caller then commits its offset."""
        self.handle_all([record])

    def handle_all(self, records: Sequence[Record]) -> None:
        """Apply events one by one in one transaction: what a framework's batch mode allows."""
        done = []
        for record in records:
            event = self._read(record)
            if event is None or self._redis.exists(mark_key(event.id)):
                continue
            customer = customer_of(event)
            if customer is not None:
                self._redis.set(lock_key(customer), "1", nx=True, ex=LOCK_SECONDS)
            self._apply(self._postgres, record, event, customer)
            done.append((event, customer))
        self._postgres.commit()
        for event, customer in done:
            self._redis.set(mark_key(event.id), "1", ex=MARK_SECONDS)
            if customer is not None:
                self._redis.delete(f"entitlement:{customer}", lock_key(customer))

    def _read(self, record: Record) -> StripeEvent | None:
        if record.body is None:
            return None
        signature = header(record.headers, "hookline_signature")
        if isinstance(verify_recorded(signature, record.body, self._secrets), Refused):
            return None
        return decode_event(record.body)

    def _apply(
        self, run: psycopg.Connection, record: Record, event: StripeEvent, customer: str | None
    ) -> None:
        created = datetime.fromtimestamp(event.created, UTC)
        inserted = run.execute(
            _EVENT,
            (
                *(event.id, event.type, customer, created),
                *(received_at(record.headers) or record.timestamp, event.livemode),
                *(event.api_version, "applied"),
                *(record.topic, record.partition, record.offset, (record.body or b"").decode()),
            ),
        )
        if inserted.rowcount == 0 or customer is None:
            return
        run.execute(_CUSTOMER, (customer,))
        linked_at, linked_by = run.execute(_LOCK, (customer,)).fetchone() or (None, None)
        reading = read_event(event)
        new = (created, event.id)
        if reading.reference and (linked_at is None or new < (linked_at, linked_by)):
            run.execute(_REFERENCE, (reading.reference, created, event.id, customer))
        if reading.subscription is not None and reading.fact is not None:
            self._merge(run, event, customer, created)

    def _merge(
        self, run: psycopg.Connection, event: StripeEvent, customer: str, created: datetime
    ) -> None:
        reading = read_event(event)
        assert reading.fact is not None  # noqa: S101 - for the type checker
        stored = run.execute(_SUBSCRIPTION, (reading.subscription,)).fetchone()
        before = NO_FACTS if stored is None else decode_facts(stored[0])
        version = 0 if stored is None else stored[1]
        after = merge(before, frozenset({reading.fact}))
        if after == before:
            return
        row = project(after, self._plans, self._grace).row
        old = project(before, self._plans, self._grace).row if before else None
        run.execute(
            _WRITE,
            (
                *(reading.subscription, customer, row.status, row.tier, list(row.prices)),
                *(row.cancel_at_period_end, row.cancel_at, row.current_period_end),
                *(row.latest_invoice, row.grace_until, row.ambiguous),
                *(encode_facts(after), version + (old != row)),
            ),
        )
        if old != row:
            run.execute(_VERSION, (customer,))
        for entry in audit_changes(old, row, reading.fact, before, after):
            changed: tuple[Any, ...] = (json.dumps(entry.before), json.dumps(entry.after))
            identity = (event.id, customer, reading.subscription, entry.action)
            run.execute(_AUDIT, (*identity, *changed, created))
