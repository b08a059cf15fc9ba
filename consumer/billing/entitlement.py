"""What a customer may use at `now`: the only place where a clock reading enters; pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

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


def is_entitled(row: Owned, now: datetime) -> bool:
    """Tell whether one subscription gives access at `now`.

    A scheduled cancellation does not end it, nor does a period end: the deleted event does.
    """
    if row.status in {"active", "trialing"}:
        return True
    return row.status == "past_due" and row.grace_until is not None and now < row.grace_until


def entitle(
    customer: str, rows: Iterable[Owned], now: datetime, plans: Plans, *, version: int
) -> Entitlement:
    """Return a customer's answer at `now`, from all rows of the customer."""
    rows = list(rows)
    entitled = [row for row in rows if is_entitled(row, now)]
    not_ended = [row for row in rows if row.status not in ENDED]
    deciding = _highest(entitled or not_ended or rows, plans)
    return Entitlement(
        customer=customer,
        tier=deciding.tier if deciding and entitled else plans.default,
        entitled=bool(entitled),
        status=deciding.status if deciding else None,
        grace_until=deciding.grace_until if deciding else None,
        valid_until=_next_edge(rows, now),
        version=version,
    )


def _highest(rows: Sequence[Owned], plans: Plans) -> Owned | None:
    return max(
        rows,
        key=lambda row: (
            plans.rank(row.tier),
            row.current_period_end or _EARLIEST,
            row.subscription_id,
        ),
        default=None,
    )


def _next_edge(rows: Iterable[Owned], now: datetime) -> datetime | None:
    """Return when the answer may change without an event: the next end of a grace period."""
    return min(
        (row.grace_until for row in rows if row.grace_until is not None and now < row.grace_until),
        default=None,
    )
