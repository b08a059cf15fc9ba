"""One subscription at Stripe: what is true of it, and the events that tell of it; pure."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from ops.simulator.catalogue import ADD_ON, Plan
from ops.simulator.objects import (
    Json,
    Period,
    Shape,
    body,
    checkout_session,
    event,
    invoice,
    subscription,
)
from ops.simulator.truth import SubscriptionTruth

DAY = 24 * 3600
MONTH = 30 * DAY
LOOP_SECONDS = 7
"""What comes back sooner to a state that it left is a tie: the core's window and a second on
each side, for stamps that are off by one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How crowded lives are: chances of a step in the second of the last one, and of odd stamps."""

    same_second: float = 0.6
    stamps_off: float = 0.04
    loops: bool = False
    """Whether a state may be left and entered again within seconds; no order of events tells."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as Stripe signs it."""

    id: str
    type: str
    created: int
    body: bytes


@dataclass
class Teller:
    """Turns what happens to one customer into events, in the order in which it happens."""

    customer: str
    shape: Shape
    pace: Pace
    random: Random
    events: list[Event] = field(default_factory=list)
    latest: int = 0
    """The last second in which anything happened."""

    def chance(self, share: float) -> bool:
        """Draw whether something happens that does in this share of cases."""
        return self.random.random() < share

    def tell(self, kind: str, obj: Json, now: int, previous: Json | None = None) -> int:
        """Make an event, stamped now or off by one at times; returns the stamp."""
        off = self.random.choice((-1, 1)) if self.chance(self.pace.stamps_off) else 0
        self.latest = max(self.latest, now)
        name = f"evt_{self.random.getrandbits(96):024x}"
        document = event(name, kind, obj, now + off, self.shape, previous=previous)
        self.events.append(Event(name, kind, now + off, body(document)))
        return now + off


NEVER = Period(0, 0)

State = tuple[object, ...]
"""What an update can change and a row shows."""


@dataclass
class Life:
    """One subscription, alive: its state, and the latest of its invoices."""

    id: str
    teller: Teller
    now: int
    plan: Plan
    has_add_on: bool
    reference: str | None
    status: str = "incomplete"
    cancel_at_period_end: bool = False
    cancel_at: int | None = None
    pending: Plan | None = None
    note: str | None = None
    is_collecting: bool = True
    started: int = 0
    period: Period = NEVER
    invoices: int = 0
    issued: int = 0
    attempts: int = 0
    reason: str = "subscription_create"
    named_invoice: str | None = None
    failed_at: int | None = None
    """The stamp of the latest invoice's first failure, while that is unpaid."""
    has_checkout: bool = False
    prorated: tuple[Plan, Plan] | None = None
    """What the latest invoice replaces by what, where it is for a change of plan."""
    visited: list[tuple[int, State]] = field(default_factory=list)
    """Each state that the subscription was in, with the second it was left or entered."""

    @property
    def random(self) -> Random:
        """The chance that the customer's whole history is drawn from."""
        return self.teller.random

    def chance(self, share: float) -> bool:
        """Draw whether something happens that does in this share of cases."""
        return self.teller.chance(share)

    @property
    def invoice_id(self) -> str:
        """The latest invoice."""
        return f"in_{self.id.removeprefix('sub_')}n{self.invoices:03d}"

    @property
    def is_alive(self) -> bool:
        """Tell whether anything can still happen to it."""
        return self.status not in {"canceled", "incomplete_expired", "unpaid"}

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What it holds; the add-on comes first, as items come in no useful order."""
        return (ADD_ON, self.plan) if self.has_add_on else (self.plan,)

    def truth(self) -> SubscriptionTruth:
        """Return what is true of it now."""
        return SubscriptionTruth(
            subscription_id=self.id,
            status=self.status,
            tier=self.plan.tier,
            prices=tuple(sorted(plan.price for plan in self.plans)),
            cancel_at_period_end=self.cancel_at_period_end,
            cancel_at=self.cancel_at,
            period_end=self.period.end,
            unpaid_since=self.failed_at if self.status == "past_due" else None,
            is_tie=self._is_tie(),
        )

    # --- time

    def wait(self, least: int, most: int) -> None:
        """Let time pass, for sure."""
        self.now += self.random.randint(least, most)

    def pause(self, most: int = DAY) -> None:
        """Let time pass, or not: many steps share a second."""
        if not self.chance(self.teller.pace.same_second):
            self.wait(1, most)

    # --- the subscription itself

    def begin(self, seconds: int) -> None:
        """Start the first period, and issue the invoice that a subscription begins with."""
        self.started = self.now
        self.period = Period(self.now, self.now + seconds)
        self.open_invoice("subscription_create")
        self.named_invoice = self.invoice_id
        self.visited.append((self.now, self._state()))

    def tell(self, kind: str, **fields: Any) -> None:
        """Make an event that shows the subscription as it is, or with some fields newer."""
        self.teller.tell(f"customer.subscription.{kind}", self.render() | fields, self.now)

    def update(self, **changes: Any) -> None:
        """Change fields, and tell it with the old values of what changed."""
        old, left = self.render(), self._state()
        for name, value in changes.items():
            setattr(self, name, value)
        new, entered = self.render(), self._state()
        if not self.teller.pace.loops and entered != left and entered in self._recent(self.now):
            self.now += LOOP_SECONDS + 1
        self.visited += [(self.now, left), (self.now, entered)]
        previous = {name: value for name, value in old.items() if new[name] != value}
        self.teller.tell("customer.subscription.updated", new, self.now, previous)

    def end(self) -> None:
        """End it now."""
        self.status, self.failed_at, self.pending = "canceled", None, None
        ended = {"canceled_at": self.now, "ended_at": self.now}
        self.visited.append((self.now, self._state()))
        self.tell("deleted", **ended)

    def render(self) -> Json:
        """Return the subscription as Stripe would show it now."""
        return subscription(
            self.id,
            self.teller.customer,
            self.teller.shape,
            status=self.status,
            plans=self.plans,
            period=self.period,
            created=self.started,
            cancel_at_period_end=self.cancel_at_period_end,
            cancel_at=self.cancel_at,
            latest_invoice=self.named_invoice,
            metadata={} if self.note is None else {"note": self.note},
            pause_collection=None if self.is_collecting else {"behavior": "void"},
            pending_update=self.pending and {"expires_at": self.issued + DAY},
        )

    # --- invoices and checkouts

    def open_invoice(self, reason: str, prorated: tuple[Plan, Plan] | None = None) -> None:
        """Issue a further invoice; the subscription names it from its next update on."""
        self.invoices += 1
        self.issued, self.reason, self.prorated = self.now, reason, prorated
        self.attempts, self.failed_at = 0, None

    def bill(self, kind: str, status: str, *, free: bool = False) -> int:
        """Make an event of the latest invoice; returns its stamp."""
        return self._bill(
            kind,
            status,
            self.invoice_id,
            reason=self.reason,
            issued=self.issued,
            prorated=self.prorated,
            free=free,
            attempts=self.attempts,
        )

    def bill_aside(self, kind: str, status: str, reason: str) -> None:
        """Make an event of an invoice issued now that the subscription never names."""
        name = f"{self.invoice_id}x{len(self.teller.events)}"
        self._bill(kind, status, name, reason=reason, issued=self.now)

    def fail(self) -> None:
        """Let a payment of the latest invoice fail."""
        self.attempts += 1
        at = self.bill("payment_failed", "open")
        self.failed_at = at if self.failed_at is None else min(at, self.failed_at)

    def pay(self, *, free: bool = False) -> None:
        """Let the latest invoice be paid, told under both of its names at times."""
        self.bill("paid", "paid", free=free)
        if self.chance(0.3):
            self.bill("payment_succeeded", "paid", free=free)
        self.failed_at = None

    def settle(self, kind: str, payment_status: str) -> None:
        """Tell how the checkout went; it names the application's own id of the customer."""
        session = checkout_session(
            f"cs_test_{self.id.removeprefix('sub_')}",
            self.teller.customer,
            subscription=self.id,
            invoice=self.invoice_id,
            payment_status=payment_status,
            created=self.started,
            reference=self.reference,
        )
        self.teller.tell(f"checkout.session.{kind}", session, self.now)
        self.has_checkout = True

    def _bill(self, kind: str, status: str, name: str, **fields: Any) -> int:
        obj = invoice(
            name,
            self.teller.customer,
            self.teller.shape,
            subscription=self.id,
            status=status,
            plans=self.plans,
            period=self.period,
            **fields,
        )
        return self.teller.tell(f"invoice.{kind}", obj, self.now)

    # --- ties

    def _state(self) -> State:
        return (
            self.status,
            self.plans,
            self.cancel_at_period_end,
            self.cancel_at,
            self.named_invoice,
            self.period,
            self.pending is not None,
        )

    def _recent(self, now: int) -> list[State]:
        """Return the states that it was in within the last seconds, in order."""
        return [state for at, state in self.visited if at >= now - LOOP_SECONDS]

    def _is_tie(self) -> bool:
        """Tell whether a state was left and entered again within the last seconds of its life."""
        recent = self._recent(self.visited[-1][0])
        steps = [state for n, state in enumerate(recent) if n == 0 or state != recent[n - 1]]
        return any(state in steps[:n] for n, state in enumerate(steps))
