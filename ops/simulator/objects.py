"""Stripe's objects and events, as API versions before and after basil render them; pure.

May live here: how things look on the wire. What happens, and in which order, is `life.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from ops.simulator.catalogue import Plan

Json = dict[str, Any]

CURRENCY = "usd"


class Shape(StrEnum):
    """How an endpoint's API version renders what basil moved."""

    OLD = "2024-06-20"
    BASIL = "2025-09-30.clover"


@dataclass(frozen=True, slots=True)
class Period:
    """What a subscription or an invoice covers, in seconds."""

    start: int
    end: int


def subscription(
    name: str,
    customer: str,
    shape: Shape,
    *,
    status: str,
    plans: Sequence[Plan],
    period: Period,
    created: int,
    **fields: Any,
) -> Json:
    """Return a subscription; `fields` are those that change in its life."""
    items = [_item(name, plan, shape, period, created) for plan in plans]
    document: Json = {
        "id": name,
        "object": "subscription",
        "application": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": created,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": created,
        "currency": CURRENCY,
        "customer": customer,
        "days_until_due": None,
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "ended_at": None,
        "items": _list(items, f"/v1/subscription_items?subscription={name}"),
        "latest_invoice": None,
        "livemode": False,
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": created,
        "status": status,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
        "trial_start": None,
    }
    if shape is Shape.OLD:
        document |= {
            "current_period_end": period.end,
            "current_period_start": period.start,
            "discount": None,
        }
        # Mirrors of the one item; with several there is nothing to mirror.
        is_single = len(plans) == 1
        document |= {
            "plan": _plan(plans[0], created) if is_single else None,
            "quantity": 1 if is_single else None,
        }
    else:
        document |= {"billing_mode": {"type": "flexible"}, "customer_account": None}
    return document | fields


def invoice(
    name: str,
    customer: str,
    shape: Shape,
    *,
    subscription: str,
    status: str,
    reason: str,
    plans: Sequence[Plan],
    period: Period,
    issued: int,
    free: bool = False,
    attempts: int = 0,
    prorated: tuple[Plan, Plan] | None = None,
) -> Json:
    """Return an invoice of a subscription.

    One line a plan; `free`: a trial's, over nothing; `prorated`: the old plan given back and the
    new one charged instead.
    """
    wanted = [(plan, 0 if free else plan.amount, False) for plan in plans]
    if prorated is not None:
        wanted = [(prorated[0], -prorated[0].amount, True), (prorated[1], prorated[1].amount, True)]
    lines = [
        _line(
            f"il_{name}_{number}",
            subscription,
            plan,
            shape,
            period=period,
            amount=amount,
            proration=proration,
        )
        for number, (plan, amount, proration) in enumerate(wanted)
    ]
    total = sum(line["amount"] for line in lines)
    paid = status == "paid"
    document: Json = {
        "id": name,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Example Inc.",
        "amount_due": total,
        "amount_paid": total if paid else 0,
        "amount_remaining": 0 if paid else total,
        "attempt_count": attempts,
        "attempted": attempts > 0,
        "auto_advance": status == "draft",
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": issued,
        "currency": CURRENCY,
        "customer": customer,
        "customer_address": None,
        "customer_email": f"{customer}@example.com",
        "customer_name": None,
        "due_date": None,
        "ending_balance": None if status == "draft" else 0,
        "hosted_invoice_url": f"https://invoice.example.com/i/{name}",
        "lines": _list(lines, f"/v1/invoices/{name}/lines"),
        "livemode": False,
        "metadata": {},
        "number": None if status == "draft" else f"SIM-{name[-8:].upper()}",
        "period_end": issued,
        "period_start": issued,
        "starting_balance": 0,
        "status": status,
        "status_transitions": {
            "finalized_at": None if status == "draft" else issued,
            "marked_uncollectible_at": None,
            "paid_at": issued if paid else None,
            "voided_at": None,
        },
        "subtotal": total,
        "total": total,
        "webhooks_delivered_at": issued,
    }
    if shape is Shape.OLD:
        return document | {
            "charge": None,
            "discount": None,
            "paid": paid,
            "payment_intent": f"pi_{name}",
            "subscription": subscription,
            "subscription_details": {"metadata": {}},
            "tax": None,
        }
    details = {"metadata": {}, "subscription": subscription}
    return document | {
        "parent": {
            "quote_details": None,
            "subscription_details": details,
            "type": "subscription_details",
        },
        "total_taxes": [],
    }


def checkout_session(
    name: str,
    customer: str,
    *,
    subscription: str,
    invoice: str,
    payment_status: str,
    created: int,
    reference: str | None,
) -> Json:
    """Return a completed checkout session; it never holds line items."""
    return {
        "id": name,
        "object": "checkout.session",
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": None if payment_status == "no_payment_required" else 2900,
        "amount_total": None if payment_status == "no_payment_required" else 2900,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": "https://example.com/cancelled",
        "client_reference_id": reference,
        "created": created,
        "currency": CURRENCY,
        "customer": customer,
        "customer_creation": None,
        "customer_details": {"address": None, "email": f"{customer}@example.com", "name": None},
        "customer_email": None,
        "expires_at": created + 24 * 3600,
        "invoice": invoice,
        "livemode": False,
        "locale": None,
        "metadata": {},
        "mode": "subscription",
        "payment_intent": None,
        "payment_method_types": ["card"],
        "payment_status": payment_status,
        "setup_intent": None,
        "status": "complete",
        "submit_type": None,
        "subscription": subscription,
        "success_url": "https://example.com/welcome",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted",
        "url": None,
    }


def customer(name: str, created: int) -> Json:
    """Return a customer."""
    return {
        "id": name,
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": created,
        "currency": CURRENCY,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": f"{name}@example.com",
        "invoice_prefix": name[-8:].upper(),
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None},
        "livemode": False,
        "metadata": {},
        "name": None,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def payment_method(name: str, customer: str, created: int) -> Json:
    """Return a card."""
    return {
        "id": name,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "card": {"brand": "visa", "exp_month": 8, "exp_year": 2031, "last4": "4242"},
        "created": created,
        "customer": customer,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def event(
    name: str, kind: str, obj: Json, created: int, shape: Shape, *, previous: Json | None = None
) -> Json:
    """Return an event; only updates carry `previous`, the old values of what changed."""
    data: Json = {"object": obj}
    if previous is not None:
        data["previous_attributes"] = previous
    return {
        "id": name,
        "object": "event",
        "api_version": shape.value,
        "created": created,
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def body(document: Json) -> bytes:
    """Return the bytes of an event, spread over lines as Stripe does."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _item(name: str, plan: Plan, shape: Shape, period: Period, created: int) -> Json:
    item: Json = {
        "id": f"si_{name}_{plan.product}",
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": created,
        "discounts": [],
        "metadata": {},
        "plan": _plan(plan, created),
        "price": _price(plan, created),
        "quantity": 1,
        "subscription": name,
        "tax_rates": [],
    }
    if shape is Shape.BASIL:
        item |= {"current_period_end": period.end, "current_period_start": period.start}
    return item


def _line(
    name: str,
    subscription: str,
    plan: Plan,
    shape: Shape,
    *,
    period: Period,
    amount: int,
    proration: bool,
) -> Json:
    line: Json = {
        "id": name,
        "object": "line_item",
        "amount": amount,
        "currency": CURRENCY,
        "description": f"1 x {plan.lookup_key}",
        "discountable": True,
        "livemode": False,
        "metadata": {},
        "period": {"end": period.end, "start": period.start},
        "quantity": 1,
    }
    if shape is Shape.OLD:
        return line | {
            "plan": _plan(plan, period.start),
            "price": _price(plan, period.start),
            "proration": proration,
            "subscription": subscription,
            "type": "subscription",
        }
    return line | {
        "parent": {
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "subscription": subscription,
                "subscription_item": f"si_{subscription}_{plan.product}",
            },
            "type": "subscription_item_details",
        },
        "pricing": {
            "price_details": {"price": plan.price, "product": plan.product},
            "type": "price_details",
            "unit_amount_decimal": str(plan.amount),
        },
    }


def _price(plan: Plan, created: int) -> Json:
    return {
        "id": plan.price,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": created,
        "currency": CURRENCY,
        "livemode": False,
        "lookup_key": plan.lookup_key,
        "metadata": {},
        "nickname": None,
        "product": plan.product,
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "tax_behavior": "unspecified",
        "type": "recurring",
        "unit_amount": plan.amount,
        "unit_amount_decimal": str(plan.amount),
    }


def _plan(plan: Plan, created: int) -> Json:
    return {
        "id": plan.price,
        "object": "plan",
        "active": True,
        "amount": plan.amount,
        "billing_scheme": "per_unit",
        "created": created,
        "currency": CURRENCY,
        "interval": "month",
        "interval_count": 1,
        "livemode": False,
        "metadata": {},
        "nickname": None,
        "product": plan.product,
        "usage_type": "licensed",
    }


def _list(entries: list[Json], url: str) -> Json:
    return {
        "object": "list",
        "data": entries,
        "has_more": False,
        "total_count": len(entries),
        "url": url,
    }
