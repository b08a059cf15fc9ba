"""The same fact in every shape that Stripe gave it, and no fact where a shape names nothing."""

from typing import Any

import pytest

from consumer.billing.facts import Checkout, Invoice, Price, Snapshot, State
from consumer.billing.handlers import NoFact, Reading, read_event
from support.stripe import MONTH, T0, Json, checkout, decoded, event, invoice, subscription

KINDS: dict[str, tuple[str, Json]] = {
    "subscription": ("customer.subscription.updated", subscription()),
    "invoice": ("invoice.paid", invoice("paid")),
    "failed_invoice": ("invoice.payment_failed", invoice("open")),
    "checkout": ("checkout.session.completed", checkout()),
}
"""An event of each kind that tells something."""


def read(kind: str, obj: Json, **fields: Any) -> Reading:
    """Read one event."""
    return read_event(decoded(event(kind, obj, 7, id="evt_1", **fields)))


CUSTOMERS: dict[str, tuple[Json, bool]] = {
    "id": ({"customer": "cus_1"}, True),
    "expanded": ({"customer": {"id": "cus_1", "object": "customer"}}, True),
    "deleted": ({"customer": {"id": "cus_1", "object": "customer", "deleted": True}}, True),
    "account": ({"customer": None, "customer_account": "acct_1"}, True),
    "null": ({"customer": None, "customer_account": None}, False),
    "empty": ({"customer": ""}, False),
    "number": ({"customer": 7}, False),
    "object_without_id": ({"customer": {"object": "customer"}}, False),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("customer", CUSTOMERS)
def test_customer_in_every_shape(kind: str, customer: str) -> None:
    """A fact needs a customer, and is the same however that is named."""
    name, obj = KINDS[kind]
    fields, known = CUSTOMERS[customer]
    found = read(name, obj | fields)
    assert found.fact == (read(name, obj).fact if known else None)
    assert found.why_none is (None if known else NoFact.NO_CUSTOMER)


@pytest.mark.parametrize("kind", KINDS)
def test_absent_customer(kind: str) -> None:
    """Without the field there is nobody to give a fact to."""
    name, obj = KINDS[kind]
    without = {field: value for field, value in obj.items() if field != "customer"}
    assert read(name, without).why_none is NoFact.NO_CUSTOMER


AROUND: dict[str, Json] = {
    "request_text": {"request": "req_1"},
    "request_object": {"request": {"id": "req_1", "idempotency_key": "key"}},
    "request_null": {"request": None},
    "api_version_null": {"api_version": None},
    "api_version_of_tomorrow": {"api_version": "2031-01-01.invented"},
    "pending_webhooks": {"pending_webhooks": 7},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", AROUND)
def test_what_stands_around_makes_no_difference(kind: str, around: str) -> None:
    """A fact depends on type, object and stamp; not on request, API version or counters."""
    name, obj = KINDS[kind]
    assert read(name, obj, **AROUND[around]) == read(name, obj)


def basil(subscription: Any, kind: str = "subscription_details") -> Json:
    """Return the parent of an invoice since basil."""
    return {"parent": {"type": kind, "subscription_details": {"subscription": subscription}}}


OF_SUBSCRIPTION: dict[str, tuple[Json, str | None]] = {
    "before_basil": ({"subscription": "sub_1"}, "sub_1"),
    "before_basil_expanded": ({"subscription": {"id": "sub_1"}}, "sub_1"),
    "basil": (basil("sub_1"), "sub_1"),
    "basil_expanded": (basil({"id": "sub_1", "object": "subscription"}), "sub_1"),
    "basil_first": (basil("sub_1") | {"subscription": "sub_2"}, "sub_1"),
    "parent_null": ({"parent": None, "subscription": "sub_1"}, "sub_1"),
    "parent_of_nobody": (basil(None) | {"subscription": "sub_1"}, "sub_1"),
    "quote": ({"parent": {"type": "quote_details", "subscription_details": None}}, None),
    "alone": ({"parent": None}, None),
    "null": ({"subscription": None}, None),
    "number": ({"subscription": 7, "parent": 7}, None),
    "nonsense": ({"parent": {"subscription_details": ["sub_1"]}}, None),
    "object_without_id": (basil({"object": "subscription"}), None),
}


@pytest.mark.parametrize("shape", OF_SUBSCRIPTION)
def test_subscription_of_an_invoice(shape: str) -> None:
    """An invoice's subscription stands in its parent since basil, at the top before."""
    fields, expected = OF_SUBSCRIPTION[shape]
    bare = {name: value for name, value in invoice("paid").items() if name != "subscription"}
    found = read("invoice.paid", bare | fields)
    assert found.subscription == expected
    assert found.why_none is (None if expected else NoFact.NO_SUBSCRIPTION)


def entered(obj: Json) -> State:
    """Return the tracked state that an update enters."""
    fact = read("customer.subscription.updated", obj).fact
    assert isinstance(fact, Snapshot)
    return fact.after


def item(price: str, **fields: Any) -> Json:
    """Return a subscription's item."""
    return {"price": {"id": price, "product": f"prod_{price}"}} | fields


LISTS: dict[str, tuple[Json, list[str], int | None]] = {
    "one_before_basil": ({"current_period_end": T0 + 5, "items": {"data": [item("p")]}},
                         ["p"], T0 + 5),
    "one_of_basil": ({"items": {"data": [item("p", current_period_end=T0 + 5)]}},
                     ["p"], T0 + 5),
    "both_shapes_at_once": (
        {"current_period_end": T0 + 5, "items": {"data": [item("p", current_period_end=T0 + 9)]}},
        ["p"], T0 + 5),
    "several_with_periods_of_their_own": (
        {"items": {"data": [item("q", current_period_end=T0 + 9),
                            item("p", current_period_end=T0 + 5)]}}, ["p", "q"], T0 + 9),
    "ten_and_more": (
        {"items": {"has_more": True, "total_count": 12,
                   "data": [item(f"p{n}", current_period_end=T0 + n) for n in range(1, 10)]}},
        [f"p{n}" for n in range(1, 10)], T0 + 9),
    "price_null": ({"items": {"data": [{"price": None, "plan": {"id": "p"}}]}}, ["p"], None),
    "price_absent": ({"items": {"data": [{"plan": {"id": "p"}}]}}, ["p"], None),
    "some_with_a_plan_alone": ({"items": {"data": [{"plan": {"id": "q"}}, item("p")]}},
                               ["p", "q"], None),
    "plan_as_a_text": ({"items": None, "plan": "p"}, ["p"], None),
    "no_items": ({"items": {"data": [], "has_more": False}}, [], None),
    "items_null": ({"items": None}, [], None),
    "period_of_another_kind": ({"current_period_end": "soon", "items": {"data": [
        item("p", current_period_end="later")]}}, ["p"], None),
}  # fmt: skip


@pytest.mark.parametrize("shape", LISTS)
def test_items_of_a_subscription(shape: str) -> None:
    """Prices and the end of the period are read of what is listed, however much there is."""
    fields, prices, period_end = LISTS[shape]
    dropped = {"items", "current_period_end"}
    bare = {name: value for name, value in subscription().items() if name not in dropped}
    state = entered(bare | fields)
    assert [price.id for price in state.prices] == prices
    assert state.period_end == period_end


def line(**fields: Any) -> Json:
    """Return a line of an invoice, but for its price."""
    return {"amount": 900, "period": {"start": T0, "end": T0 + MONTH}} | fields


DETAILS = {"price_details": {"price": "p", "product": "q"}}
NEW_PRORATION = {"type": "subscription_item_details",
                 "subscription_item_details": {"proration": True}}  # fmt: skip
INVOICE_LINES: dict[str, tuple[list[Json], list[Price], int | None]] = {
    "before_basil": ([line(price={"id": "p", "product": "q"}, proration=False)],
                     [Price("p", "q")], T0 + MONTH),
    "plan_alone": ([line(plan={"id": "p", "product": "q"})], [Price("p", "q")], T0 + MONTH),
    "basil": ([line(pricing=DETAILS, parent={"subscription_item_details": {"proration": False}})],
              [Price("p", "q")], T0 + MONTH),
    "basil_without_parent": ([line(pricing=DETAILS, parent=None)], [Price("p", "q")], T0 + MONTH),
    "old_proration": ([line(price={"id": "old"}, proration=True), line(price={"id": "p"})],
                      [Price("p")], T0 + MONTH),
    "new_proration": ([line(pricing=DETAILS, parent=NEW_PRORATION), line(price={"id": "p"})],
                      [Price("p")], T0 + MONTH),
    "prorations_alone": ([line(price={"id": "old"}, proration=True)], [], None),
    "without_price": ([line()], [], T0 + MONTH),
    "without_period": ([line(price="p", period=None)], [Price("p")], None),
    "nothing": ([], [], None),
}  # fmt: skip


@pytest.mark.parametrize("more", [False, True], ids=["all", "has_more"])
@pytest.mark.parametrize("shape", INVOICE_LINES)
def test_lines_of_an_invoice(shape: str, more: bool) -> None:  # noqa: FBT001 - a table's column
    """Prices and the service period come of the lines, never of the invoice's own period."""
    lines, prices, period_end = INVOICE_LINES[shape]
    obj = invoice("paid") | {"period_end": T0 + 9 * MONTH}
    fact = read("invoice.paid", obj | {"lines": {"data": lines, "has_more": more}}).fact
    assert isinstance(fact, Invoice)
    assert (list(fact.prices), fact.period_end) == (prices, period_end)


@pytest.mark.parametrize("kind", ["invoice.upcoming", "invoice.paid", "invoice.payment_failed"])
def test_invoice_without_id(kind: str) -> None:
    """An upcoming invoice has no id yet, so nothing can be said of it."""
    obj = {name: value for name, value in invoice("paid").items() if name != "id"}
    assert read(kind, obj).why_none is NoFact.NO_SUBSCRIPTION


UNKNOWN: list[tuple[str, Json]] = [
    ("invented.tomorrow", {"object": "invented", "id": "inv_1", "customer": "cus_1"}),
    ("customer.subscription.updated", {"object": "subscription.v2", "id": "sub_1"}),
    ("invoice.paid", {"object": None, "id": "in_1"}),
    ("invoice.paid", {"object": {"id": "invoice"}}),
    ("invoice.paid", {"id": "in_1", "subscription": "sub_1", "customer": "cus_1"}),
    ("invoice.invented_tomorrow", invoice("open")),
    ("checkout.session.invented_tomorrow", checkout()),
    ("customer.deleted", {"object": "customer", "id": "cus_1", "deleted": True}),
    ("payment_method.detached", {"object": "payment_method", "id": "pm_1", "customer": None}),
    ("any.type", {}),
]


@pytest.mark.parametrize(("kind", "obj"), UNKNOWN)
def test_unknown_stays_unknown(kind: str, obj: Json) -> None:
    """What nobody has heard of says nothing about a subscription, and raises nothing."""
    assert (read(kind, obj).fact, read(kind, obj).why_none) == (None, NoFact.TYPE)


@pytest.mark.parametrize("status", ["invented_tomorrow", "ended", "Active", "canceled "])
def test_unknown_status_is_kept(status: str) -> None:
    """A status nobody has heard of is kept as it is; it neither ends nor pays anything."""
    fact = read("customer.subscription.updated", subscription(status)).fact
    assert isinstance(fact, Snapshot)
    assert (fact.after.status, fact.is_ended) == (status, False)
    billed = read("invoice.payment_failed", invoice(status)).fact
    assert isinstance(billed, Invoice)
    assert not billed.paid
    settled = read("checkout.session.completed", checkout(status)).fact
    assert isinstance(settled, Checkout)
    assert not settled.settled
