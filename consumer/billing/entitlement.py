"""What a customer may use at `now`: the only place where a clock reading enters; pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from consumer.billing.facts import ENDED
from schemas.entitlement import Entitlement
from schemas.plans import Plans

_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Owned(Protocol):
    """What entitlement needs of a subscription's row."""

    @property
    def subscription_id(self) -> str:
        """The last key of the order."""

    @property
    def status(self) -> str:
        """Stripe's status, or what the facts say."""

    @property
    def tier(self) -> str:
        """The plan's tier."""

    @property
    def current_period_end(self) -> datetime | None:
        """UTC."""

    @property
    def grace_until(self) -> datetime | None:
        """UTC."""


R = TypeVar("R", bound=Owned)


class Outranked(StrEnum):
    """Why a subscription is not the one that decides a customer's answer."""

    NOT_ENTITLED = "not_entitled"
    """It gives no access, and another one does."""
    ENDED = "ended"
    """It has ended, and another one has not."""
    LOWER_TIER = "lower_tier"
    """Its tier is lower."""
    EARLIER_PERIOD_END = "earlier_period_end"
    """The tier is the same, and its period ends earlier."""
    LESSER_ID = "lesser_id"
    """All else is equal, so the id decides: the same everywhere."""


def is_entitled(row: Owned, now: datetime) -> bool:
    """Tell whether one subscription gives access at `now`.

    A scheduled cancellation does not end it, nor does a period end: the deleted event does.
    """
    if row.status in {"active", "trialing"}:
        return True
    return row.status == "past_due" and row.grace_until is not None and now < row.grace_until


def find_deciding(rows: Iterable[R], now: datetime, plans: Plans) -> R | None:
    """Return the subscription whose status and grace the answer shows; None without any.

    The highest tier, then the latest period end, then the greatest id: among the entitled, else
    among those not ended, else among all.
    """
    rows = list(rows)
    entitled = [row for row in rows if is_entitled(row, now)]
    not_ended = [row for row in rows if row.status not in ENDED]
    return max(entitled or not_ended or rows, key=lambda row: _order(row, plans), default=None)


def why_outranked(row: Owned, deciding: Owned, now: datetime, plans: Plans) -> Outranked:
    """Say why a subscription other than the deciding one does not decide."""
    if is_entitled(deciding, now) and not is_entitled(row, now):
        return Outranked.NOT_ENTITLED
    if row.status in ENDED and deciding.status not in ENDED:
        return Outranked.ENDED
    mine, its = _order(row, plans), _order(deciding, plans)
    if mine[0] != its[0]:
        return Outranked.LOWER_TIER
    return Outranked.EARLIER_PERIOD_END if mine[1] != its[1] else Outranked.LESSER_ID


def entitle(
    customer: str, rows: Iterable[Owned], now: datetime, plans: Plans, *, version: int
) -> Entitlement:
    """Return a customer's answer at `now`, from all rows of the customer."""
    rows = list(rows)
    deciding = find_deciding(rows, now, plans)
    entitled = deciding is not None and is_entitled(deciding, now)
    return Entitlement(
        customer=customer,
        tier=deciding.tier if deciding and entitled else plans.default,
        entitled=entitled,
        status=deciding.status if deciding else None,
        grace_until=deciding.grace_until if deciding else None,
        valid_until=_next_edge(rows, now),
        version=version,
    )


def _order(row: Owned, plans: Plans) -> tuple[int, datetime, str]:
    return plans.rank(row.tier), row.current_period_end or _EARLIEST, row.subscription_id


def _next_edge(rows: Iterable[Owned], now: datetime) -> datetime | None:
    """Return when the answer may change without an event: the next end of a grace period."""
    return min(
        (row.grace_until for row in rows if row.grace_until is not None and now < row.grace_until),
        default=None,
    )
