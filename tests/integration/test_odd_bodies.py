"""Signed bodies that the door must let through: what becomes of them in the consumer's tables."""

from datetime import UTC, datetime

import pytest

from consumer.records import Record
from schemas.signature import sign
from schemas.stripe_event import decode_route
from support.bench import START, TOPIC, Bench
from support.pipeline import SECRET
from support.stripe import T0, body, event, subscription

GOOD = event("customer.subscription.created", subscription(), id="evt_good")
ODD = event("customer.subscription.created", subscription(customer="cus_2"), id="evt_odd")

SET_ASIDE = {
    "duplicate_id": (body(ODD)[:-1] + b',"id":"evt_other"}', "more than one id"),
    "surrogate_in_the_id": (body(ODD | {"id": "evt_\ud800"}), "lone surrogate"),
    "surrogate_in_the_customer": (
        body(event("x", subscription(customer="cus_\udfff"), id="evt_odd")),
        "lone surrogate",
    ),
    "u0000_in_the_id": (body(ODD | {"id": "evt_\0"}), "U+0000"),
    "u0000_in_the_customer": (
        body(event("x", subscription(customer="cus_\0"), id="evt_odd")),
        "U+0000",
    ),
    "u0000_in_a_price": (
        body(
            event(
                "customer.subscription.created",
                subscription(customer="cus_2", prices=("price_\0",)),
                id="evt_odd",
            )
        ),
        "U+0000",
    ),
    "no_type": (body({"id": "evt_odd"}), "type is missing"),
}
APPLIED = {
    "surrogate_that_is_not_stored": body(ODD | {"request": {"idempotency_key": "\ud800"}}),
    "u0000_that_is_not_stored": body(ODD | {"request": {"idempotency_key": "\0"}}),
}


def record(content: bytes, offset: int) -> Record:
    """Return the record that ingest would have written."""
    signature = sign(content, SECRET, T0).encode()
    now = datetime.now(UTC)
    return Record(TOPIC, 0, offset, None, content, now, [("hookline_signature", signature)])


@pytest.mark.parametrize("name", SET_ASIDE)
def test_it_is_set_aside_with_its_bytes_and_reason(bench: Bench, name: str) -> None:
    """The door takes it, the consumer keeps it as a dead letter, and the next event is applied."""
    content, why = SET_ASIDE[name]
    assert decode_route(content).id
    after = bench.batch.apply([record(content, 0), record(body(GOOD), 1)], START)
    assert after[0].next_offset == 2
    ((reason, error, kept),) = bench.query("SELECT reason, error, body FROM dead_letters")
    assert (reason, bytes(kept)) == ("undecodable", content)
    assert why in error
    assert bench.outcomes() == {"evt_good": ("applied", None)}


@pytest.mark.parametrize("name", APPLIED)
def test_what_no_column_holds_does_no_harm(bench: Bench, name: str) -> None:
    """An odd string that hookline does not store costs the customer nothing."""
    bench.batch.apply([record(APPLIED[name], 0)], START)
    assert bench.outcomes() == {"evt_odd": ("applied", None)}
    assert bench.query("SELECT count(*) FROM dead_letters") == [(0,)]


def test_an_odd_time_of_receipt_stops_nobody(bench: Bench) -> None:
    """The header beside a signed body is not signed: the time of the record stands in for it."""
    odd = record(body(GOOD), 0)
    odd.headers.append(("hookline_received_at", b"0001-01-01T00:00:00+14:00"))
    bench.batch.apply([odd], START)
    assert bench.query("SELECT received_at FROM webhook_events") == [(odd.timestamp,)]
