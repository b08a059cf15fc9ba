"""Events as Stripe sent them: read without an error, and as the index beside them says."""

import json
from pathlib import Path
from typing import Any

import pytest

from consumer.billing.facts import Checkout, FactSet, Invoice, Snapshot, decode_facts, encode_facts
from consumer.billing.handlers import read_event
from consumer.billing.merge import prune
from consumer.billing.projection import project
from schemas.stripe_event import StripeEvent, customer_of, decode_event, decode_route
from support.billing import GRACE, PLANS
from support.stripe import T0, body, with_all_fields

FOLDER = Path(__file__).parents[4] / "shared" / "stripe-events"

Entry = dict[str, Any]


def find_entries() -> list[Entry]:
    """Return the index of the captured events, empty where there is none."""
    path = FOLDER / "INDEX.json"
    entries: list[Entry] = json.loads(path.read_bytes()) if path.is_file() else []
    return entries


ENTRIES = find_entries()
WHOLE: list[Entry] = [entry for entry in ENTRIES if entry["kind"] != "event.data only"]

pytestmark = pytest.mark.skipif(
    not ENTRIES, reason=f"no captured events beside the repository ({FOLDER.name}/INDEX.json)"
)


def read_body(entry: Entry) -> bytes:
    """Return the bytes of a file, its data put into an event where that is all it holds."""
    raw = (FOLDER / str(entry["file"])).read_bytes()
    if entry in WHOLE:
        return raw
    document: dict[str, Any] = json.loads(raw)
    data = document if isinstance(document.get("object"), dict) else {"object": document}
    return body({"id": "evt_1", "type": entry["type"], "created": T0, "data": data})


def name_of(entry: Entry) -> str:
    """Return the name of a file, for the list of tests."""
    return str(entry["file"])


def is_due(event: StripeEvent, entry: Entry) -> bool:
    """Tell whether this event says something about a subscription, by kind of object alone."""
    kind = event.object.get("object")
    if kind == "invoice":
        paid = event.object.get("status") == "paid" or event.type in {
            "invoice.paid",
            "invoice.payment_succeeded",
        }
        has_id = bool(event.object.get("id"))
        wanted = paid or event.type == "invoice.payment_failed"
    else:
        has_id, wanted = True, kind in {"subscription", "checkout.session"}
    manual = event.object.get("billing_reason") == "manual"
    return bool(entry["expected_subscription"]) and has_id and wanted and not manual


@pytest.mark.parametrize("entry", WHOLE, ids=name_of)
def test_customer(entry: Entry) -> None:
    """Each whole event names the customer that the index names, and is keyed by it."""
    raw = read_body(entry)
    event = decode_event(raw)
    assert (event.id, event.created) == (entry["event_id"], entry["created"])
    assert customer_of(event) == entry["expected_customer"]
    route = decode_route(raw)
    assert route.key == (entry["expected_customer"] or route.key)
    assert route.key not in {"", "None", "null"}


@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_fact(entry: Entry) -> None:
    """Where a fact is due, its subscription, prices and period are those of the index."""
    event = decode_event(read_body(entry))
    reading = read_event(event)
    if not is_due(event, entry) or customer_of(event) is None:
        assert reading.fact is None
        assert reading.why_none is not None
        return
    assert reading.subscription == entry["expected_subscription"]
    match reading.fact:
        case Snapshot(after=after):
            assert [price.id for price in after.prices] == entry["expected_prices"]
            assert after.period_end == entry["expected_period_end"]
        case Invoice(prices=prices):
            assert [price.id for price in prices] == entry["expected_prices"]
        case fact:
            assert isinstance(fact, Checkout)
            assert fact.settled is (entry["payment_status"] != "unpaid")


@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_no_field_that_is_read_is_skipped(entry: Entry) -> None:
    """An event reads the same as it is decoded and with everything that Stripe sent."""
    raw = read_body(entry)
    event = decode_event(raw)
    whole = with_all_fields(event, raw)
    assert read_event(event) == read_event(whole)
    assert customer_of(event) == customer_of(whole)


def test_projection() -> None:
    """Every fact that the captured events hold can be kept, stored and projected."""
    readings = [read_event(decode_event(read_body(entry))) for entry in ENTRIES]
    sets: dict[str, FactSet] = {}
    for reading in readings:
        if reading.fact is not None and reading.subscription is not None:
            known = sets.get(reading.subscription, frozenset())
            sets[reading.subscription] = prune(known | {reading.fact})
    assert len(sets) > 5
    for facts in sets.values():
        assert decode_facts(encode_facts(facts)) == facts
        assert project(facts, PLANS, GRACE).row.status
