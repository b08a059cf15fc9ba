"""The fields of Stripe's events that hookline reads; a decoder skips all others. Pure.

Whoever reads another field names it here: what is not named is never decoded. Any may be missing,
null or of another kind than Stripe's today.
"""

from typing import Any, TypedDict

Other = list[Any] | str | int | float | bool | None


class Price(TypedDict, total=False):
    """A price, or a plan as older versions have it."""

    id: Any
    product: Any
    lookup_key: Any


class Period(TypedDict, total=False):
    """The time that a line of an invoice is for."""

    end: Any


class Details(TypedDict, total=False):
    """What a subscription's invoice, or a line of it, belongs to."""

    subscription: Any
    proration: Any


class Parent(TypedDict, total=False):
    """Why there is an invoice, or a line of it."""

    subscription_details: Details | Other
    subscription_item_details: Details | Other


class PriceDetails(TypedDict, total=False):
    """The price of a line, as an id or expanded."""

    price: Any
    product: Any


class Pricing(TypedDict, total=False):
    """How a line is priced."""

    price_details: PriceDetails | Other


class Line(TypedDict, total=False):
    """An item of a subscription, or a line of an invoice."""

    price: Price | Other
    plan: Price | Other
    current_period_end: Any
    amount: Any
    parent: Parent | Other
    period: Period | Other
    pricing: Pricing | Other
    proration: Any


Lines = list[Line | Other]


class LineList(TypedDict, total=False):
    """Items or lines as a list object."""

    data: Lines | dict[str, Any] | str | int | float | bool | None


class Metadata(TypedDict, total=False):
    """What the application has noted."""

    reference: Any
    tier: Any


class StripeObject(TypedDict, total=False):
    """Whatever an event is about, and its fields as they were before."""

    billing_reason: Any
    cancel_at: Any
    cancel_at_period_end: Any
    client_reference_id: Any
    created: Any
    current_period_end: Any
    customer: Any
    customer_account: Any
    date: Any
    id: Any
    items: LineList | Lines | str | int | float | bool | None
    latest_invoice: Any
    lines: LineList | Lines | str | int | float | bool | None
    metadata: Metadata | Other
    mode: Any
    object: Any
    parent: Parent | Other
    payment_status: Any
    pending_update: Any
    plan: Price | Other
    status: Any
    subscription: Any


class Data(TypedDict, total=False):
    """An event's `data`."""

    object: StripeObject | Other
    previous_attributes: StripeObject | Other


Field = Data | Other
"""A field of the event itself."""
