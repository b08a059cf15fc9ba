"""From an event to at most one fact; pure, and total: what is unknown stays unknown.

May live here: how Stripe's objects are read, in every shape that an API version gave them.
Decided by the kind of object, not by a list of event types, so that a type invented tomorrow
is understood. Everything read from an object may be missing, null or of another kind.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from consumer.billing.facts import ENDED, Checkout, Fact, Invoice, Price, Snapshot, State
from schemas.stripe_event import GREATEST_CREATED, Json, StripeEvent, customer_of, reference

CHECKOUT_TYPES = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
    }
)
PAID_TYPES = frozenset({"invoice.paid", "invoice.payment_succeeded"})


class NoFact(StrEnum):
    """Why an event says nothing about a subscription; stands in webhook_events.reason."""

    TYPE = "type"
    """An event of this kind never does."""
    NO_SUBSCRIPTION = "no_subscription"
    """Its object belongs to no subscription."""
    NO_CUSTOMER = "no_customer"
    """It names a subscription, but no customer to give it to."""
    MANUAL_INVOICE = "manual_invoice"
    """An invoice made by hand does not touch the billing cycle."""


class Reading(msgspec.Struct, frozen=True):
    """What one event tells: a fact about a subscription or why none, and perhaps a reference."""

    subscription: str | None = None
    fact: Fact | None = None
    why_none: NoFact | None = NoFact.TYPE
    reference: str | None = None


def read_event(event: StripeEvent) -> Reading:
    """Read the one fact and the application's own customer id from an event."""
    kind = event.object.get("object")
    if kind == "subscription":
        reading = _read_subscription(event)
    elif kind == "invoice":
        reading = _read_invoice(event)
    elif kind == "checkout.session":
        reading = _read_checkout(event)
    else:
        reading = Reading()
    if reading.fact is not None and customer_of(event) is None:
        reading = Reading(why_none=NoFact.NO_CUSTOMER)
    return msgspec.structs.replace(reading, reference=_read_reference(event.object))


def _read_subscription(event: StripeEvent) -> Reading:
    subscription = _text(event.object.get("id"))
    if subscription is None:
        return Reading(why_none=NoFact.NO_SUBSCRIPTION)
    after = _state(event.object)
    if event.type.endswith(".deleted") and after.status not in ENDED:
        after = msgspec.structs.replace(after, status="canceled")
    before = _state_before(event.object, event.previous_attributes)
    return Reading(subscription, Snapshot(event.created, event.id, before, after), None)


def _state(obj: Json) -> State:
    items = _entries(obj.get("items"))
    return State(
        status=_text(obj.get("status")) or "unknown",
        prices=_prices(map(_item_price, items)) or _prices([obj.get("plan")]),
        tier_hint=_text(_object(obj.get("metadata")).get("tier")),
        cancel_at_period_end=obj.get("cancel_at_period_end") is True,
        cancel_at=_time(obj.get("cancel_at")),
        latest_invoice=reference(obj.get("latest_invoice")),
        period_end=_time(obj.get("current_period_end"))
        or _latest(item.get("current_period_end") for item in items),
        pending=obj.get("pending_update") is not None,
    )


def _state_before(obj: Json, previous: Json | None) -> State | None:
    if previous is None:
        return None
    merged = obj | previous
    # An old event names the old plan without the items that held it.
    if "plan" in previous and "items" not in previous:
        merged["items"] = None
    # Of metadata Stripe sends only the keys that changed; without the others an update of one
    # would look as if it had set the tier as well.
    if isinstance(obj.get("metadata"), dict) and isinstance(previous.get("metadata"), dict):
        merged["metadata"] = obj["metadata"] | previous["metadata"]
    return _state(merged)


def _read_invoice(event: StripeEvent) -> Reading:
    obj = event.object
    subscription = _invoice_subscription(obj)
    invoice = _text(obj.get("id"))
    issued = _time(obj.get("created")) or _time(obj.get("date"))
    if subscription is None or invoice is None or issued is None:
        return Reading(why_none=NoFact.NO_SUBSCRIPTION)
    if obj.get("billing_reason") == "manual":
        return Reading(why_none=NoFact.MANUAL_INVOICE)
    paid = obj.get("status") == "paid" or event.type in PAID_TYPES
    if not paid and event.type != "invoice.payment_failed":
        return Reading()
    lines = [line for line in _entries(obj.get("lines")) if not _is_proration(line)]
    fact = Invoice(
        invoice=invoice,
        issued=issued,
        paid=paid,
        at=event.created,
        id=event.id,
        says=_invoice_says(obj, paid=paid),
        prices=_prices(_line_price(line) for line in lines),
        period_end=_latest(_object(line.get("period")).get("end") for line in lines),
    )
    return Reading(subscription, fact, None)


def _invoice_subscription(obj: Json) -> str | None:
    details = _object(_object(obj.get("parent")).get("subscription_details"))
    return reference(details.get("subscription")) or reference(obj.get("subscription"))


def _invoice_says(obj: Json, *, paid: bool) -> str:
    first = obj.get("billing_reason") == "subscription_create"
    if not paid:
        return "incomplete" if first else "past_due"
    amounts = [line.get("amount") for line in _entries(obj.get("lines"))]
    return "trialing" if first and all(amount == 0 for amount in amounts) else "active"


def _is_proration(line: Json) -> bool:
    details = _object(_object(line.get("parent")).get("subscription_item_details"))
    return details.get("proration") is True or line.get("proration") is True


def _line_price(line: Json) -> Any:
    details = _object(_object(line.get("pricing")).get("price_details"))
    if reference(details.get("price")):
        price, product = details["price"], details.get("product")
        return price if isinstance(price, dict) else {"id": price, "product": product}
    return _item_price(line)


def _item_price(item: Json) -> Any:
    return item.get("price") if reference(item.get("price")) else item.get("plan")


def _read_checkout(event: StripeEvent) -> Reading:
    obj = event.object
    subscription = reference(obj.get("subscription"))
    if event.type not in CHECKOUT_TYPES:
        return Reading()
    if obj.get("mode") != "subscription" or subscription is None:
        return Reading(why_none=NoFact.NO_SUBSCRIPTION)
    payment = obj.get("payment_status")
    says = {"paid": "active", "no_payment_required": "trialing"}.get(
        payment if isinstance(payment, str) else "", "incomplete"
    )
    fact = Checkout(says != "incomplete", event.created, event.id, says)
    return Reading(subscription, fact, None)


def _read_reference(obj: Json) -> str | None:
    """Read the application's own id of the customer; a session's own field comes first."""
    kind = _text(obj.get("object"))
    own = _text(obj.get("client_reference_id")) if kind == "checkout.session" else None
    if own is None and kind in {"checkout.session", "customer", "subscription"}:
        own = _text(_object(obj.get("metadata")).get("reference"))
    return own


def _prices(found: Iterable[Any]) -> tuple[Price, ...]:
    """Return the sorted unique prices, each given as an id, a price or a plan object."""
    prices = {
        Price(price, reference(fields.get("product")) or "", _text(fields.get("lookup_key")) or "")
        for entry in found
        if (price := reference(entry)) is not None
        for fields in (_object(entry),)
    }
    return tuple(sorted(prices))


def _entries(value: Any) -> list[Json]:
    """Return the objects of a list object, or of a plain array as very old versions had it."""
    entries = value.get("data") if isinstance(value, dict) else value
    entries = entries if isinstance(entries, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= GREATEST_CREATED:
        return value
    return None


def _latest(values: Iterable[Any]) -> int | None:
    return max((time for value in values if (time := _time(value)) is not None), default=None)
