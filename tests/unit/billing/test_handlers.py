"""What each kind of object tells, in every shape that an API version gave it."""

from typing import Any

import pytest

from consumer.billing.facts import Checkout, Fact, Invoice, Price, Snapshot, State
from consumer.billing.handlers import NoFact, Reading, read_event
from support.stripe import MONTH, T0, Json, checkout, decoded, event, invoice, subscription

UPDATED = "customer.subscription.updated"


def read(kind: str, obj: Json, previous: Json | None = None) -> Reading:
    """Read one event."""
    return read_event(decoded(event(kind, obj, 7, previous=previous, id="evt_1")))


def state(obj: Json, previous: Json | None = None, kind: str = UPDATED) -> State:
    """Return the tracked state that an event of a subscription enters."""
    fact = read(kind, obj, previous).fact
    assert isinstance(fact, Snapshot)
    return fact.after


def before(obj: Json, previous: Json | None) -> State | None:
    """Return the tracked state that an event of a subscription leaves."""
    fact = read(UPDATED, obj, previous).fact
    assert isinstance(fact, Snapshot)
    return fact.before


def bill(kind: str, obj: Json) -> Invoice:
    """Return the fact of an invoice's event."""
    fact = read(kind, obj).fact
    assert isinstance(fact, Invoice)
    return fact


def items(*entries: Json) -> Json:
    """Return a list object."""
    return {"object": "list", "data": list(entries)}


PRICE = {"id": "price_1", "product": "prod_1", "lookup_key": "pro_monthly"}
PLAN = {"id": "plan_1", "product": {"id": "prod_2", "object": "product"}}
SHAPES: list[tuple[str, Json, tuple[Price, ...]]] = [
    ("price", {"items": items({"price": PRICE, "plan": PLAN})},
     (Price("price_1", "prod_1", "pro_monthly"),)),
    ("plan_of_an_item", {"items": items({"plan": PLAN})}, (Price("plan_1", "prod_2"),)),
    ("plan_at_the_top", {"items": None, "plan": PLAN}, (Price("plan_1", "prod_2"),)),
    ("items_before_the_top", {"items": items({"price": PRICE}), "plan": PLAN},
     (Price("price_1", "prod_1", "pro_monthly"),)),
    ("sorted_and_once", {"items": items({"price": {"id": "b"}}, {"price": {"id": "a"}},
                                        {"price": {"id": "b"}})}, (Price("a"), Price("b"))),
    ("price_as_a_text", {"items": items({"price": "price_1"})}, (Price("price_1"),)),
    ("array_of_very_old_versions", {"items": [{"plan": PLAN}]}, (Price("plan_1", "prod_2"),)),
    ("nothing", {"items": items(), "plan": None}, ()),
    ("nonsense", {"items": {"data": "x"}, "plan": 7}, ()),
    ("nonsense_entries", {"items": items(None, 7, {"price": {"id": 7}}, {})}, ()),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "prices"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES]
)
def test_prices_of_a_subscription(fields: Json, prices: tuple[Price, ...]) -> None:
    """Prices are found in items, else in the plan at the top, whatever else stands there."""
    assert state(subscription() | fields).prices == prices


FIELDS: list[tuple[Json, str, Any]] = [
    ({"status": "invented_tomorrow"}, "status", "invented_tomorrow"),
    ({"status": None}, "status", "unknown"),
    ({"metadata": {"tier": "pro"}}, "tier_hint", "pro"),
    ({"metadata": None}, "tier_hint", None),
    ({"cancel_at_period_end": True}, "cancel_at_period_end", True),
    ({"cancel_at_period_end": None}, "cancel_at_period_end", False),
    ({"cancel_at": T0}, "cancel_at", T0),
    ({"cancel_at": "soon"}, "cancel_at", None),
    ({"cancel_at": True}, "cancel_at", None),
    ({"cancel_at": 10**30}, "cancel_at", None),
    ({"latest_invoice": "in_1"}, "latest_invoice", "in_1"),
    ({"latest_invoice": {"id": "in_1", "object": "invoice"}}, "latest_invoice", "in_1"),
    ({"latest_invoice": 7}, "latest_invoice", None),
    ({"current_period_end": T0 + 5}, "period_end", T0 + 5),
    ({"current_period_end": None, "items": items({"current_period_end": T0 + 1},
      {"current_period_end": T0 + 9}, {"current_period_end": None})}, "period_end", T0 + 9),
    ({"pending_update": {"expires_at": T0}}, "pending", True),
    ({"pending_update": None}, "pending", False),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "name", "value"), FIELDS)
def test_field_of_a_subscription(fields: Json, name: str, value: Any) -> None:
    """Each tracked field is read where Stripe puts it; one of another kind counts as missing."""
    assert getattr(state(subscription() | fields), name) == value


@pytest.mark.parametrize(
    ("kind", "status", "read_as"),
    [
        ("customer.subscription.deleted", "active", "canceled"),
        ("customer.subscription.deleted", "canceled", "canceled"),
        ("customer.subscription.deleted", "incomplete_expired", "incomplete_expired"),
        ("customer.subscription.updated", "canceled", "canceled"),
        ("customer.subscription.invented_tomorrow", "paused", "paused"),
        ("customer.subscription.pending_update_expired", "active", "active"),
    ],
)
def test_status_by_type(kind: str, status: str, read_as: str) -> None:
    """The kind of object decides; a type only tells the end from the rest."""
    assert state(subscription(status), kind=kind).status == read_as


def test_before_is_what_the_update_left() -> None:
    """The state before an update is the object with the old values over it."""
    now = subscription("past_due", prices=("price_pro",), cancel_at=T0)
    was = {
        "status": "active",
        "cancel_at": None,
        "items": subscription(prices=("price_ent",))["items"],
        "latest_invoice": "in_0",
    }
    assert before(now, was) == state(now | was)
    assert before(now, None) is None


def test_before_of_an_old_plan_change() -> None:
    """An old event names the old plan without its items: that plan was the price."""
    now = subscription(prices=("plan_new",)) | {"plan": {"id": "plan_new"}}
    found = before(now, {"plan": {"id": "plan_old", "product": "prod_1"}})
    assert found is not None
    assert found.prices == (Price("plan_old", "prod_1"),)


@pytest.mark.parametrize(
    ("previous", "hint"),
    [({"seats": "4"}, "pro"), ({"tier": "starter"}, "starter"), ({"tier": None}, None)],
)
def test_before_of_a_metadata_change(previous: Json, hint: str | None) -> None:
    """Stripe names only the keys that changed; the others were as they are."""
    obj = subscription(metadata={"tier": "pro", "seats": "5"})
    found = before(obj, {"metadata": previous})
    assert found is not None
    assert found.tier_hint == hint


def test_update_of_nothing_tracked_is_no_link() -> None:
    """A change of what the row does not show leaves and enters no state."""
    fact = read(UPDATED, subscription(), {"default_payment_method": "pm_1"}).fact
    assert isinstance(fact, Snapshot)
    assert fact.before == fact.after
    assert not fact.is_link


SAYS: list[tuple[str, str, str, int, bool, str]] = [
    ("invoice.paid", "paid", "subscription_create", 1900, True, "active"),
    ("invoice.paid", "paid", "subscription_create", 0, True, "trialing"),
    ("invoice.paid", "paid", "subscription_cycle", 0, True, "active"),
    ("invoice.payment_succeeded", "open", "subscription_cycle", 1900, True, "active"),
    ("invoice.finalized", "paid", "subscription_cycle", 1900, True, "active"),
    ("invoice.payment_failed", "paid", "subscription_cycle", 1900, True, "active"),
    ("invoice.payment_failed", "open", "subscription_cycle", 1900, False, "past_due"),
    ("invoice.payment_failed", "open", "subscription_update", 1900, False, "past_due"),
    ("invoice.payment_failed", "open", "subscription_create", 1900, False, "incomplete"),
]


@pytest.mark.parametrize("basil", [False, True], ids=["before_basil", "basil"])
@pytest.mark.parametrize(("kind", "status", "reason", "amount", "paid", "says"), SAYS)
def test_invoice(  # noqa: PLR0917 - a table's columns
    kind: str,
    status: str,
    reason: str,
    amount: int,
    paid: bool,  # noqa: FBT001 - same
    says: str,
    basil: bool,  # noqa: FBT001 - same
) -> None:
    """An invoice is paid or failed, and suggests a status, in both shapes alike."""
    obj = invoice(status, reason=reason, amount=amount, issued=T0 + 3, basil=basil)
    product = "prod_price_pro"
    expected = Invoice(
        "in_1", T0 + 3, paid, T0 + 7, "evt_1", says, (Price("price_pro", product),), T0 + MONTH
    )
    assert bill(kind, obj) == expected


def test_proration_is_not_the_plan() -> None:
    """The lines of a proration name the old price and its period, so they do not count."""
    old = {"amount": -900, "price": {"id": "price_old"}, "period": {"end": T0 + 9 * MONTH}}
    obj = invoice("paid")
    for flag in (
        {"proration": True},
        {"parent": {"subscription_item_details": {"proration": True}}},
    ):
        found = bill("invoice.paid", obj | {"lines": items(old | flag, obj["lines"]["data"][0])})
        assert ([price.id for price in found.prices], found.period_end) == (
            ["price_pro"],
            T0 + MONTH,
        )


LINES: list[tuple[Json, Price]] = [
    ({"pricing": {"price_details": {"price": "p", "product": "q"}}}, Price("p", "q")),
    ({"pricing": {"price_details": {"price": {"id": "p", "product": "q"}}}}, Price("p", "q")),
    ({"pricing": None, "price": {"id": "p", "lookup_key": "k"}}, Price("p", "", "k")),
    ({"price": "p", "plan": {"id": "old"}}, Price("p")),
    ({"price": None, "plan": {"id": "p"}}, Price("p")),
]


@pytest.mark.parametrize(("line", "price"), LINES)
def test_price_of_a_line(line: Json, price: Price) -> None:
    """A line's price stands in pricing, else in price, else in plan."""
    assert bill("invoice.paid", invoice("paid") | {"lines": items(line)}).prices == (price,)


def test_issued_before_2019() -> None:
    """An invoice of before 2019 says `date` where later ones say `created`."""
    obj = invoice("paid")
    del obj["created"]
    assert bill("invoice.paid", obj | {"date": T0 - 5}).issued == T0 - 5


PAYMENTS: list[tuple[str, str | None, bool, str]] = [
    ("completed", "paid", True, "active"),
    ("completed", "no_payment_required", True, "trialing"),
    ("completed", "unpaid", False, "incomplete"),
    ("completed", None, False, "incomplete"),
    ("completed", "invented_tomorrow", False, "incomplete"),
    ("async_payment_succeeded", "paid", True, "active"),
    ("async_payment_failed", "unpaid", False, "incomplete"),
]


@pytest.mark.parametrize(("kind", "payment", "settled", "says"), PAYMENTS)
def test_checkout(
    kind: str,
    payment: str,
    settled: bool,  # noqa: FBT001 - a table's column
    says: str,
) -> None:
    """A checkout is settled when nothing is left to pay now; anything unknown is not."""
    found = read(f"checkout.session.{kind}", checkout(payment))
    assert found.subscription == "sub_1"
    assert found.fact == Checkout(settled, T0 + 7, "evt_1", says)


NONE: list[tuple[str, str, Json, NoFact]] = [
    ("product", "product.updated", {"object": "product", "id": "prod_1"}, NoFact.TYPE),
    ("no_kind", "any.type", {"customer": "cus_1"}, NoFact.TYPE),
    ("kind_of_another_kind", "any.type", {"object": ["invoice"]}, NoFact.TYPE),
    ("refund", "charge.refunded", {"object": "charge", "customer": "cus_1"}, NoFact.TYPE),
    ("invoice_created", "invoice.created", invoice("draft"), NoFact.TYPE),
    ("invoice_voided", "invoice.voided", invoice("void"), NoFact.TYPE),
    ("checkout_expired", "checkout.session.expired", checkout("unpaid"), NoFact.TYPE),
    ("invoice_alone", "invoice.paid", invoice("paid", subscription=None), NoFact.NO_SUBSCRIPTION),
    ("invoice_without_id", "invoice.paid", invoice("paid") | {"id": None}, NoFact.NO_SUBSCRIPTION),
    ("never_issued", "invoice.paid", invoice("paid") | {"created": None}, NoFact.NO_SUBSCRIPTION),
    ("checkout_of_a_payment", "checkout.session.completed",
     checkout(mode="payment", subscription=None), NoFact.NO_SUBSCRIPTION),
    ("subscription_without_id", UPDATED, subscription() | {"id": None}, NoFact.NO_SUBSCRIPTION),
    ("manual", "invoice.paid", invoice("paid", reason="manual"), NoFact.MANUAL_INVOICE),
    ("nobody", UPDATED, subscription(customer=None), NoFact.NO_CUSTOMER),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "obj", "why"), [row[1:] for row in NONE], ids=[row[0] for row in NONE]
)
def test_no_fact(kind: str, obj: Json, why: NoFact) -> None:
    """An event that says nothing about a subscription names why."""
    found = read(kind, obj)
    nothing: tuple[str | None, Fact | None] = (None, None)
    assert (found.subscription, found.fact) == nothing
    assert found.why_none is why


REFERENCES: list[tuple[Json, str | None]] = [
    (checkout(client_reference_id="user-7"), "user-7"),
    (checkout(client_reference_id="user-7", metadata={"reference": "user-8"}), "user-7"),
    (checkout(metadata={"reference": "user-8"}), "user-8"),
    (checkout(client_reference_id=""), None),
    ({"object": "customer", "id": "cus_1", "metadata": {"reference": "user-8"}}, "user-8"),
    (subscription(metadata={"reference": "user-8"}), "user-8"),
    (subscription(client_reference_id="user-7"), None),
    (invoice() | {"metadata": {"reference": "user-8"}}, None),
    (subscription(metadata={"reference": 7}), None),
]


@pytest.mark.parametrize(("obj", "reference"), REFERENCES)
def test_reference(obj: Json, reference: str | None) -> None:
    """The application's own id comes from a checkout, or from metadata of three kinds of object."""
    assert read("checkout.session.expired", obj).reference == reference
