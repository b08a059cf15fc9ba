"""Whose event it is, and what orders it in Kafka: wherever Stripe names the customer, or not."""

from itertools import product
from typing import Any

import pytest

from schemas.stripe_event import customer_of, decode_event, decode_route
from support.stripe import Json, body, event

NAMED: dict[str, Any] = {
    "id": "cus_1",
    "expanded": {"id": "cus_1", "object": "customer", "email": None},
    "deleted": {"id": "cus_1", "object": "customer", "deleted": True},
}
"""How an object names its customer."""

NOBODY: dict[str, Any] = {
    "null": None,
    "empty": "",
    "number": 7,
    "true": True,
    "array": ["cus_2"],
    "empty_object": {},
    "object_of_null": {"id": None},
    "object_of_empty": {"id": ""},
    "object_of_number": {"id": 7},
    "object_of_object": {"id": {"id": "cus_2"}},
}
"""What stands there and names nobody."""

OF_A_CUSTOMER = {
    "customer.subscription.updated": "subscription",
    "customer.subscription.invented_tomorrow": "subscription",
    "invoice.paid": "invoice",
    "invoiceitem.created": "invoiceitem",
    "payment_method.attached": "payment_method",
    "charge.succeeded": "charge",
    "payment_intent.succeeded": "payment_intent",
    "setup_intent.succeeded": "setup_intent",
    "checkout.session.completed": "checkout.session",
    "customer.source.updated": "card",
    "customer.tax_id.created": "tax_id",
    "customer.discount.created": "discount",
    "subscription_schedule.released": "subscription_schedule",
    "quote.accepted": "quote",
    "credit_note.created": "credit_note",
    "promotion_code.created": "promotion_code",
    "refund.created": "refund",
    "invented.tomorrow": "invented",
}
"""Events whose object names its customer, each with its kind of object."""


@pytest.mark.parametrize(("kind", "how"), list(product(OF_A_CUSTOMER, NAMED)))
def test_object_names_its_customer(kind: str, how: str) -> None:
    """Whatever the kind of object, its customer is the id, or the id of what is expanded there."""
    obj = {"id": "obj_1", "object": OF_A_CUSTOMER[kind], "customer": NAMED[how]}
    assert whose(event(kind, obj)) == ("cus_1", "cus_1")


@pytest.mark.parametrize(("kind", "how"), list(product(OF_A_CUSTOMER, NOBODY)))
def test_object_names_nobody(kind: str, how: str) -> None:
    """A customer of another kind is none, and the object's own id orders the event."""
    obj = {"id": "obj_1", "object": OF_A_CUSTOMER[kind]}
    assert whose(event(kind, obj)) == (None, "obj_1")
    assert whose(event(kind, obj | {"customer": NOBODY[how]})) == (None, "obj_1")


def whose(document: Json) -> tuple[str | None, str]:
    """Return an event's customer and its key, each read by the process that needs it."""
    raw = body(document)
    return customer_of(decode_event(raw)), decode_route(raw).key


CONNECT: Json = {"account": "acct_1"}
DELETED = {"id": "cus_1", "object": "customer", "deleted": True}
METHOD = {"object": "payment_method", "id": "pm_1", "customer": None}
WAS = {"customer": "cus_1"}
ELSEWHERE: list[tuple[str, str, Json, Json | None, Json, str | None, str]] = [
    ("customer", "customer.created", {"object": "customer", "id": "cus_1"}, None, {},
     "cus_1", "cus_1"),
    ("updated", "customer.updated", {"object": "customer", "id": "cus_1"}, {"email": None}, {},
     "cus_1", "cus_1"),
    ("deleted_whole", "customer.deleted", {"object": "customer", "id": "cus_1", "email": None},
     None, {}, "cus_1", "cus_1"),
    ("deleted_short", "customer.deleted", DELETED, None, {}, "cus_1", "cus_1"),
    ("entitlements_without_id", "entitlements.active_entitlement_summary.updated",
     {"object": "entitlements.active_entitlement_summary", "customer": "cus_1"}, None, {},
     "cus_1", "cus_1"),
    ("upcoming_without_id", "invoice.upcoming", {"object": "invoice", "customer": "cus_1"},
     None, {}, "cus_1", "cus_1"),
    ("detached", "payment_method.detached", METHOD, WAS, {}, "cus_1", "cus_1"),
    ("detached_expanded", "payment_method.detached", METHOD, {"customer": DELETED}, {},
     "cus_1", "cus_1"),
    ("detached_without_previous", "payment_method.detached", METHOD, None, {}, None, "pm_1"),
    ("detached_of_nobody", "payment_method.detached", METHOD, {"customer": None}, {}, None, "pm_1"),
    ("detached_otherwise", "payment_method.detached", METHOD, {"metadata": {}}, {}, None, "pm_1"),
    ("moved", "any.updated", {"id": "x_1", "customer": "cus_2"}, WAS, {}, "cus_2", "cus_2"),
    ("account", "invoice.paid", {"customer": None, "customer_account": "acct_2"}, None, {},
     "acct_2", "acct_2"),
    ("account_expanded", "invoice.paid", {"customer_account": {"id": "acct_2"}}, None, {},
     "acct_2", "acct_2"),
    ("account_beside", "invoice.paid", {"customer": "cus_1", "customer_account": "acct_2"},
     None, {}, "cus_1", "cus_1"),
    ("account_null", "invoice.paid", {"id": "in_1", "customer": None, "customer_account": None},
     None, {}, None, "in_1"),
    ("account_on_connect", "invoice.paid", {"customer_account": "acct_2"}, None, CONNECT,
     "acct_2", "acct_2"),
    ("dispute", "charge.dispute.created", {"object": "dispute", "id": "du_1", "charge": "ch_1"},
     None, {}, None, "du_1"),
    ("dispute_expanded", "charge.dispute.created",
     {"object": "dispute", "id": "du_1", "charge": {"id": "ch_1", "customer": "cus_1"}},
     None, {}, None, "du_1"),
    ("refund_before_dahlia", "charge.refund.updated", {"object": "refund", "id": "re_1"},
     None, {}, None, "re_1"),
    ("refund_of_dahlia", "refund.updated",
     {"object": "refund", "id": "re_1", "customer": None, "customer_account": "acct_2"},
     None, {}, "acct_2", "acct_2"),
    ("invoice_payment", "invoice_payment.paid", {"object": "invoice_payment", "id": "inpay_1"},
     None, {}, None, "inpay_1"),
    ("payout", "payout.paid", {"object": "payout", "id": "po_1"}, None, {}, None, "po_1"),
    ("balance_without_id", "balance.available", {"object": "balance"}, None, {}, None, "evt_1"),
    ("radar", "radar.early_fraud_warning.created", {"id": "issfr_1", "charge": "ch_1"},
     None, {}, None, "issfr_1"),
    ("review", "review.opened", {"object": "review", "id": "prv_1"}, None, {}, None, "prv_1"),
    *((kind, f"{kind}.updated", {"object": kind, "id": "any_1"}, None, {}, None, "any_1")
      for kind in ("product", "price", "plan", "coupon", "promotion_code", "tax_rate")),
    ("connect", "account.updated", {"object": "account", "id": "acct_1"}, None, CONNECT,
     None, "acct_1"),
    ("capability", "capability.updated", {"object": "capability", "id": "card_payments"},
     None, CONNECT, None, "acct_1"),
    ("external_account", "account.external_account.created", {"object": "card", "id": "card_1"},
     None, CONNECT, None, "acct_1"),
    ("deauthorized", "account.application.deauthorized", {"object": "application", "id": "ca_1"},
     None, CONNECT, None, "acct_1"),
]  # fmt: skip
"""Where the customer stands elsewhere, or nowhere: what holds it, its customer and its key."""


@pytest.mark.parametrize(
    ("kind", "obj", "previous", "more", "customer", "key"),
    [row[1:] for row in ELSEWHERE],
    ids=[row[0] for row in ELSEWHERE],
)
def test_customer_elsewhere_or_nowhere(  # noqa: PLR0917 - a table's columns
    kind: str, obj: Json, previous: Json | None, more: Json, customer: str | None, key: str
) -> None:
    """Each row of Stripe's list of where a customer stands is read as it is meant."""
    document = event(kind, obj, previous=previous, id="evt_1") | more
    assert whose(document) == (customer, key)


PLACES = ("customer", "previous", "customer_account", "account", "id")
"""Where a key is looked for, in this order; the event's id comes last."""


def with_values(values: Json) -> Json:
    """Return an event with these values in the places of a key, the other places absent."""
    obj = {name: value for name, value in values.items() if name not in {"previous", "account"}}
    previous = {"customer": values["previous"]} if "previous" in values else None
    top = {name: value for name, value in values.items() if name == "account"}
    return event("any.type", obj, previous=previous, id="evt_1") | top


@pytest.mark.parametrize("how", NOBODY)
def test_key_passes_over_what_names_nobody(how: str) -> None:
    """Null, empty or of another kind in one place: the next place decides, never a made-up text."""
    values: Json = {place: f"in_{place}" for place in PLACES}
    for place, following in zip(PLACES, [*PLACES[1:], None], strict=True):
        values[place] = NOBODY[how]
        expected = "evt_1" if following is None else f"in_{following}"
        assert decode_route(body(with_values(values))).key == expected


@pytest.mark.parametrize("how", NOBODY)
@pytest.mark.parametrize("data", [None, 7, [], {}, {"object": None}, {"object": []}])
def test_key_of_an_event_without_an_object(data: Any, how: str) -> None:
    """Without an object the account orders an event, else the event itself."""
    document: Json = {"id": "evt_1", "data": data, "account": NOBODY[how]}
    assert decode_route(body(document)).key == "evt_1"
    assert decode_route(body(document | CONNECT)).key == "acct_1"


@pytest.mark.parametrize("how", NOBODY)
def test_customer_whose_own_id_is_none(how: str) -> None:
    """A customer object is known by its own id alone, never by a field of it."""
    obj = {"object": "customer", "id": NOBODY[how], "customer": "cus_2"}
    assert whose(event("customer.updated", obj, id="evt_1")) == (None, "evt_1")
