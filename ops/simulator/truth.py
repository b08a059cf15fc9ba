"""What is true at the end of a history, by Stripe's rules and the company's; pure.

May live here: what the demo and the tests hold hookline against. May not: anything of hookline's
own core, or the core would be compared with itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ops.simulator.catalogue import DEFAULT_TIER, TIERS

GRACE_SECONDS = 24 * 3600
ENDED = frozenset({"canceled", "incomplete_expired"})


@dataclass(frozen=True, slots=True)
class SubscriptionTruth:
    """One subscription as Stripe would show it now; times in Unix seconds."""

    subscription_id: str
    status: str
    tier: str
    prices: tuple[str, ...]
    cancel_at_period_end: bool
    cancel_at: int | None
    period_end: int
    unpaid_since: int | None
    """The stamp of the unpaid invoice's first failure, while the subscription is past due."""
    is_tie: bool = False
    """Whether it left a state and came back within seconds, which events alone cannot settle."""

    def grace_until(self, grace_seconds: int = GRACE_SECONDS) -> int | None:
        """Return when the grace period ends or ended; None where there is none."""
        return None if self.unpaid_since is None else self.unpaid_since + grace_seconds

    def is_entitled(self, now: float, grace_seconds: int = GRACE_SECONDS) -> bool:
        """Tell whether it gives access at `now`."""
        until = self.grace_until(grace_seconds)
        return self.status in {"active", "trialing"} or (until is not None and now < until)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gatekeeper must say of a customer."""

    tier: str
    entitled: bool
    status: str | None
    grace_until: int | None

    def __str__(self) -> str:
        access = "entitled" if self.entitled else "not entitled"
        grace = "" if self.grace_until is None else f", grace until {self.grace_until}"
        return f"{self.tier}, {access}, {self.status}{grace}"


@dataclass(frozen=True, slots=True)
class CustomerTruth:
    """A customer, and all that it ever subscribed to."""

    customer_id: str
    reference: str | None
    subscriptions: tuple[SubscriptionTruth, ...]

    def answer(self, now: float, grace_seconds: int = GRACE_SECONDS) -> Answer:
        """Return what the customer may use at `now`, and the subscription that decides it."""
        entitled = [s for s in self.subscriptions if s.is_entitled(now, grace_seconds)]
        deciding = _deciding(entitled or self._alive() or self.subscriptions)
        return Answer(
            tier=deciding.tier if deciding and entitled else DEFAULT_TIER,
            entitled=bool(entitled),
            status=deciding.status if deciding else None,
            grace_until=deciding.grace_until(grace_seconds) if deciding else None,
        )

    def _alive(self) -> list[SubscriptionTruth]:
        return [s for s in self.subscriptions if s.status not in ENDED]


def _deciding(found: Sequence[SubscriptionTruth]) -> SubscriptionTruth | None:
    """Return the subscription of the highest tier, then the longest paid, then the greatest id."""
    ranked = sorted(found, key=lambda s: (TIERS.index(s.tier), s.period_end, s.subscription_id))
    return ranked[-1] if ranked else None
