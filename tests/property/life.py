"""One subscription at a small Stripe: what is true of it, and the events that tell of it."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from support.stripe import BASIL, DAY, MONTH, OLD, T0, Json, checkout, event, invoice, subscription

SAME_SECOND = 0.6
LOOP_SECONDS = 7
"""The core's window, and a second on each side for stamps that are off by one."""


@dataclass
class Life:
    """One subscription: its events so far, and what is true of it."""

    id: str
    random: Random
    basil: bool
    exact: bool
    now: int = 0
    status: str = "incomplete"
    price: str = "price_pro"
    cancelling: bool = False
    invoices: int = 0
    issued: int = 0
    named_invoice: str | None = None
    period_end: int = T0 + MONTH
    failed_at: int | None = None
    """The stamp of the first failure of the latest invoice, while that is unpaid."""
    events: list[Json] = field(default_factory=list)
    visited: list[tuple[int, Json]] = field(default_factory=list)
    """Each state that the subscription was in, with the second it was left or entered."""

    @property
    def invoice_id(self) -> str:
        """The latest invoice."""
        return f"in_{self.id}_{self.invoices:03d}"

    @property
    def grace_from(self) -> int | None:
        """The stamp from which grace runs, if the subscription is in one."""
        return self.failed_at if self.status == "past_due" else None

    @property
    def has_loop(self) -> bool:
        """Tell whether a state was left and entered again within the last window."""
        last = self.visited[-1][0]
        recent = [state for at, state in self.visited if at >= last - LOOP_SECONDS]
        steps = [state for n, state in enumerate(recent) if n == 0 or state != recent[n - 1]]
        return any(state in steps[:n] for n, state in enumerate(steps))

    def emit(self, kind: str, obj: Json, previous: Json | None = None) -> int:
        """Send an event, stamped now, or off by one at times; returns the stamp."""
        off = 0 if self.exact or self.random.random() > 0.04 else self.random.choice((-1, 1))
        version = BASIL if self.basil else OLD
        name = f"evt_{self.random.getrandbits(48):012x}"
        at = self.now + off
        self.events.append(event(kind, obj, at, previous=previous, id=name, api_version=version))
        return at

    def render(self) -> Json:
        """Return the subscription as Stripe would now."""
        return subscription(
            self.status,
            id=self.id,
            prices=(self.price,),
            basil=self.basil,
            period_end=self.period_end,
            latest_invoice=self.named_invoice,
            cancel_at_period_end=self.cancelling,
        )

    def update(self, **changes: Any) -> None:
        """Change fields and send the update with the old values of what changed."""
        old = self.render()
        for name, value in changes.items():
            setattr(self, name, value)
        new = self.render()
        self.visited += [(self.now, old), (self.now, new)]
        previous = {name: value for name, value in old.items() if new[name] != value}
        self.emit("customer.subscription.updated", new, previous)

    def bill(self, kind: str, status: str, reason: str, amount: int = 1900) -> int:
        """Send an event of the latest invoice; returns its stamp."""
        obj = invoice(
            status,
            id=self.invoice_id,
            subscription=self.id,
            issued=T0 + self.issued,
            reason=reason,
            price=self.price,
            amount=amount,
            basil=self.basil,
            period_end=self.period_end,
        )
        return self.emit(f"invoice.{kind}", obj)

    def open_invoice(self) -> None:
        """Issue a further invoice; the subscription names it from its next update on."""
        self.invoices += 1
        self.issued = self.now
        self.failed_at = None

    def fail(self, reason: str = "subscription_cycle") -> None:
        """Let a payment of the latest invoice fail."""
        at = self.bill("payment_failed", "open", reason)
        self.failed_at = at if self.failed_at is None else min(at, self.failed_at)

    def pay(self, reason: str = "subscription_cycle", amount: int = 1900) -> None:
        """Let the latest invoice be paid, told under both names at times."""
        self.bill("paid", "paid", reason, amount)
        if self.random.random() < 0.3:
            self.bill("payment_succeeded", "paid", reason, amount)
        self.failed_at = None

    def settle(self, payment_status: str) -> None:
        """Complete the checkout."""
        session = checkout(payment_status, subscription=self.id)
        self.emit("checkout.session.completed", session)

    def wait(self, least: int, most: int) -> None:
        """Let time pass, for sure."""
        self.now += self.random.randint(least, most)

    def pause(self) -> None:
        """Let time pass, or not: over half the steps share a second."""
        if self.random.random() > SAME_SECOND:
            self.wait(1, DAY)
