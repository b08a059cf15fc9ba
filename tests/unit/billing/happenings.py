"""What happens to a subscription, each as the event that tells it."""

from typing import Any

from support.stripe import Json, checkout, event, invoice, subscription


def updated(status: str, at: int, before: dict[str, Any] | None = None, **fields: Any) -> Json:
    """Return an update to a status, from what it was before."""
    obj = subscription(status, **fields)
    return event("customer.subscription.updated", obj, at, previous=before or {})


def created(status: str, at: int, **fields: Any) -> Json:
    """Return the creation of a subscription."""
    return event("customer.subscription.created", subscription(status, **fields), at)


def deleted(at: int, status: str = "canceled", **fields: Any) -> Json:
    """Return the end of a subscription."""
    return event("customer.subscription.deleted", subscription(status, **fields), at)


def failed(at: int, invoice_id: str = "in_1", **fields: Any) -> Json:
    """Return a failed payment of an invoice."""
    return event("invoice.payment_failed", invoice("open", id=invoice_id, **fields), at)


def paid(at: int, invoice_id: str = "in_1", **fields: Any) -> Json:
    """Return the payment of an invoice."""
    return event("invoice.paid", invoice("paid", id=invoice_id, **fields), at)


def completed(at: int, payment_status: str = "paid", kind: str = "completed") -> Json:
    """Return a checkout's event."""
    return event(f"checkout.session.{kind}", checkout(payment_status), at)


FROM_ACTIVE = {"status": "active"}


def items_of(*prices: str) -> dict[str, Any]:
    """Return the previous items of a price change."""
    return {"items": subscription(prices=prices)["items"]}
