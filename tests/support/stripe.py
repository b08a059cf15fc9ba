"""Stripe's objects and events as tests need them, before and after API version basil."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from schemas.stripe_event import StripeEvent, decode_event

T0 = 1_700_000_000
DAY = 24 * 3600
MONTH = 30 * DAY
BASIL = "2025-03-31.basil"
OLD = "2024-06-20"

_ids = itertools.count(1)

Json = dict[str, Any]


def subscription(
    status: str = "active",
    *,
    id: str = "sub_1",  # noqa: A002 - the field's own name
    customer: Any = "cus_1",
    prices: tuple[str, ...] = ("price_pro",),
    basil: bool = False,
    period_end: int = T0 + MONTH,
    **fields: Any,
) -> Json:
    """Return a subscription object."""
    items = [
        {"id": f"si_{price}", "price": {"id": price, "product": f"prod_{price}"}}
        | ({"current_period_end": period_end} if basil else {})
        for price in prices
    ]
    obj = {
        "id": id,
        "object": "subscription",
        "customer": customer,
        "status": status,
        "cancel_at_period_end": False,
        "cancel_at": None,
        "latest_invoice": None,
        "items": {"object": "list", "data": items, "has_more": False},
        "pending_update": None,
        "metadata": {},
    }
    return obj | ({} if basil else {"current_period_end": period_end}) | fields


def invoice(
    status: str = "open",
    *,
    id: str = "in_1",  # noqa: A002 - the field's own name
    subscription: str | None = "sub_1",
    customer: Any = "cus_1",
    issued: int = T0,
    reason: str = "subscription_cycle",
    price: str = "price_pro",
    amount: int = 1900,
    basil: bool = False,
    period_end: int = T0 + MONTH,
) -> Json:
    """Return an invoice object with one line."""
    line: Json = {"amount": amount, "period": {"start": issued, "end": period_end}}
    obj: Json = {
        "id": id,
        "object": "invoice",
        "customer": customer,
        "status": status,
        "billing_reason": reason,
        "created": issued,
    }
    if basil:
        line["pricing"] = {"price_details": {"price": price, "product": f"prod_{price}"}}
        line["parent"] = {"subscription_item_details": {"proration": False}}
        obj["parent"] = {"subscription_details": {"subscription": subscription}}
    else:
        line |= {"price": {"id": price, "product": f"prod_{price}"}, "proration": False}
        obj["subscription"] = subscription
    return obj | {"lines": {"object": "list", "data": [line], "has_more": False}}


def checkout(payment_status: str = "paid", **fields: Any) -> Json:
    """Return a checkout session of a subscription."""
    return {
        "id": "cs_1",
        "object": "checkout.session",
        "mode": "subscription",
        "customer": "cus_1",
        "subscription": "sub_1",
        "payment_status": payment_status,
        "client_reference_id": None,
        "metadata": {},
    } | fields


def event(
    type: str,  # noqa: A002 - the field's own name
    obj: Mapping[str, Any],
    at: int = 0,
    *,
    previous: Mapping[str, Any] | None = None,
    id: str | None = None,  # noqa: A002 - same
    **fields: Any,
) -> Json:
    """Return an event `at` seconds after T0, with an id of its own unless one is given."""
    data: Json = {"object": dict(obj)}
    if previous is not None:
        data["previous_attributes"] = dict(previous)
    return {
        "id": id or f"evt_{next(_ids):06d}",
        "object": "event",
        "type": type,
        "created": T0 + at,
        "livemode": False,
        "api_version": OLD,
        "data": data,
    } | fields


def body(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of an event."""
    return json.dumps(document).encode()


def decoded(document: Mapping[str, Any]) -> StripeEvent:
    """Return an event as the consumer reads it."""
    return decode_event(body(document))


def with_all_fields(event: StripeEvent, body: bytes) -> StripeEvent:
    """Return an event with all that stands in its body, not only what the decoder reads."""
    data = json.loads(body)["data"]
    before = event.previous_attributes
    return replace(
        event,
        object=data["object"],
        previous_attributes=None if before is None else data["previous_attributes"],
    )
