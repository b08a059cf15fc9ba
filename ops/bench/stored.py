"""A database that has been in use for long: customers and events that are there already."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from ops.bench.bed import Bed
from ops.bench.traffic import END, uniform
from schemas.payload import make_pack

EVENTS_A_CUSTOMER = 5
SPAN_SECONDS = 90 * 24 * 3600
"""The events lie in the same months as those that are measured."""

CUSTOMER = "cus_stored"
"""How their ids begin; a number follows."""

_CUSTOMERS = """
INSERT INTO customers (customer_id, version, updated_at)
SELECT 'cus_stored' || n, 1, to_timestamp(%(end)s) FROM generate_series(1, %(customers)s) AS n
"""
_SUBSCRIPTIONS = """
INSERT INTO subscriptions (subscription_id, customer_id, status, tier, prices,
  cancel_at_period_end, current_period_end, ambiguous, facts, version)
SELECT 'sub_stored' || n, 'cus_stored' || n, 'active', 'pro', '{price_sim_pro}', false,
  to_timestamp(%(end)s), false,
  jsonb_build_array(1, jsonb_build_array('snapshot', %(end)s - n, 'evt_stored' || n, NULL,
    jsonb_build_array('active', jsonb_build_array(jsonb_build_array('price_sim_pro', '', '')),
      NULL, false, NULL, NULL, %(end)s, false))), 1
FROM generate_series(1, %(customers)s) AS n
"""
_EVENTS = """
INSERT INTO webhook_events (event_id, type, customer_id, created_at, received_at, livemode,
  api_version, outcome, topic, partition, kafka_offset, payload)
SELECT 'evt_stored' || n, 'customer.subscription.updated',
  'cus_stored' || (n %% %(customers)s + 1), at, at, false, '2024-06-20', 'applied', 'stored',
  n %% 12, n / 12, %(payload)s
FROM generate_series(1, %(events)s) AS n,
  LATERAL (SELECT to_timestamp(%(end)s - (n::bigint * 7919) %% %(span)s) AS at) AS moment
"""
_AUDIT = """
INSERT INTO billing_audit (event_id, customer_id, subscription_id, action, before, after,
  event_created_at)
SELECT 'evt_stored' || n, 'cus_stored' || n, 'sub_stored' || n, 'subscription_started', '{}',
  '{"status": "active"}', to_timestamp(%(end)s) FROM generate_series(1, %(customers)s) AS n
"""


@contextmanager
def grown(bed: Bed, events: int) -> Iterator[str]:
    """Provide the name of a database with so many events, to be cloned; a fifth as many customers.

    Blocks for a minute a million.
    """
    name = f"bench_stored_{events}"
    body = next(uniform(1, "stored").records()).body
    values = {
        "end": END,
        "events": events,
        "customers": max(events // EVENTS_A_CUSTOMER, 1),
        "span": SPAN_SECONDS,
        "payload": make_pack()([body])[0],
    }
    with bed.database(name) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in (_CUSTOMERS, _SUBSCRIPTIONS, _EVENTS, _AUDIT):
                connection.execute(statement, values)
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        yield name
