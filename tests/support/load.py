"""A known load: life cycles whose outcome a test can state without asking hookline."""

import random
from dataclasses import dataclass

from support.pipeline import Pipeline
from support.stripe import DAY, T0, Json, event, invoice, subscription


@dataclass(frozen=True)
class Life:
    """The events of one customer, in the order in which Stripe made them, and where they end."""

    customer: str
    events: list[Json]
    status: str
    tier: str


def lives(count: int, mark: str) -> list[Life]:
    """Return customers with four to five events each; every third ends, every fourth is unpaid."""
    return [_life(number, mark) for number in range(count)]


def _life(number: int, mark: str) -> Life:
    customer, sub = f"cus_{mark}{number}", f"sub_{mark}{number}"
    price = "price_ent" if number % 5 == 0 else "price_pro"
    own: Json = {"id": sub, "customer": customer, "prices": (price,)}
    first, second = f"in_{mark}{number}a", f"in_{mark}{number}b"

    def bill(status: str, name: str, issued: int, reason: str) -> Json:
        """Return an invoice of this life."""
        return invoice(
            status,
            id=name,
            subscription=sub,
            customer=customer,
            issued=issued,
            reason=reason,
            price=price,
        )

    def ids() -> str:
        """Return the next event id of this life."""
        return f"evt_{mark}{number}x{len(events)}"

    events: list[Json] = []

    def add(kind: str, obj: Json, at: int, previous: Json | None = None) -> None:
        """Append an event."""
        events.append(event(kind, obj, at, previous=previous, id=ids()))

    add("customer.subscription.created", subscription("incomplete", **own), 0)
    add("invoice.paid", bill("paid", first, T0, "subscription_create"), 0)
    active = subscription("active", latest_invoice=first, **own)
    add("customer.subscription.updated", active, 0, {"status": "incomplete"})
    if number % 3 == 0:
        add("customer.subscription.deleted", subscription("canceled", **own), 5 * DAY)
        return Life(customer, events, "canceled", "starter")
    if number % 4 == 1:
        renewal = bill("open", second, T0 + 30 * DAY, "subscription_cycle")
        add("invoice.payment_failed", renewal, 30 * DAY)
        # Long past: the grace period of a life that began in 2023 is over.
        return Life(customer, events, "past_due", "starter")
    return Life(customer, events, "active", "enterprise" if number % 5 == 0 else "pro")


def shuffled(known: list[Life], copies: int = 1, seed: int = 1) -> list[Json]:
    """Return all events of these lives in one order, each so many times."""
    events = [document for life in known for document in life.events] * copies
    random.Random(seed).shuffle(events)  # noqa: S311 - the same order each time
    return events


def check_lives(pipeline: Pipeline, known: list[Life]) -> None:
    """Compare rows, the view and the gatekeeper with what the lives are known to end in."""
    rows = dict(pipeline.query("SELECT customer_id, status FROM subscriptions"))
    assert rows == {life.customer: life.status for life in known}
    tiers = dict(pipeline.query("SELECT customer_id, tier FROM customer_entitlements"))
    assert tiers == {life.customer: life.tier for life in known}
    # Each event's effects once: every life begins with one start, and ends at most once.
    started = "SELECT count(*) FROM billing_audit WHERE action = 'subscription_started'"
    assert pipeline.query(started) == [(len(known),)]
    ended = "SELECT count(*) FROM billing_audit WHERE action = 'subscription_ended'"
    assert pipeline.query(ended) == [(sum(life.status == "canceled" for life in known),)]
