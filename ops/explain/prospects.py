"""What a subscription gives at a moment and what comes next, in sentences; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from consumer.billing.entitlement import find_deciding, is_entitled
from consumer.billing.facts import ENDED
from ops.explain.views import Subscription
from ops.explain.words import distance, moment, status
from schemas.plans import Plans


class What(StrEnum):
    """What can come next."""

    GRACE_ENDS = "grace_ends"
    CANCELS = "cancels"
    RENEWS = "renews"
    RENEWAL_DUE = "renewal_due"
    PAYMENT = "payment"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Prospect:
    """One thing that comes next; no moment where it comes by an event at any time."""

    what: What
    at: datetime | None
    sentence: str


def say_access(row: Subscription, at: datetime) -> str:
    """Say whether a subscription gives access at a moment, and by what."""
    entitled = is_entitled(row, at)
    if row.status != "past_due":
        return f"{status(row.status).capitalize()} {'gives' if entitled else 'gives no'} access."
    if row.grace_until is None:
        return "Past due, and no failed payment of the invoice that counts is known: no grace."
    if entitled:
        return f"Past due gives access until its grace period ends on {moment(row.grace_until)}."
    return f"Past due, and its grace period ended on {moment(row.grace_until)}: no access."


def foresee(rows: Sequence[Subscription], at: datetime, plans: Plans) -> Iterator[Prospect]:
    """Yield what comes next for the deciding subscription, in order of time."""
    deciding = find_deciding(rows, at, plans)
    if deciding is None:
        return
    if not is_entitled(deciding, at):
        yield _revival(deciding)
        return
    if deciding.status == "past_due" and deciding.grace_until is not None:
        yield _grace_end(deciding, deciding.grace_until, rows, at, plans)
    row, end = deciding.row, deciding.row.current_period_end
    if row.cancel_at is not None or row.cancel_at_period_end:
        yield _cancellation(row.cancel_at or end, at)
    elif row.status == "past_due":
        return
    elif end is not None and end <= at:
        yield Prospect(
            What.RENEWAL_DUE,
            end,
            f"The period ended on {moment(end)} ({distance(end, at)}) and no renewal is known "
            "yet. Access goes on until an event of Stripe's says otherwise.",
        )
    elif end is not None:
        word = "The trial's period ends" if row.status == "trialing" else "Next renewal"
        yield Prospect(What.RENEWS, end, f"{word} on {moment(end)} ({distance(end, at)}).")


def _revival(row: Subscription) -> Prospect:
    """Say what would give access again."""
    if row.status in ENDED:
        return Prospect(
            What.NOTHING, None, "Nothing by itself: buying again makes a new subscription."
        )
    if row.status in {"past_due", "unpaid", "incomplete"}:
        invoice = _unpaid(row) or "its invoice"
        return Prospect(What.PAYMENT, None, f"A payment of {invoice} gives access.")
    return Prospect(What.NOTHING, None, "Access comes with Stripe's report of another status.")


def _grace_end(
    row: Subscription, end: datetime, rows: Sequence[Subscription], at: datetime, plans: Plans
) -> Prospect:
    """Say what is left when grace ends: the same question, asked at that moment."""
    left = find_deciding(rows, end, plans)
    tier = left.tier if left and is_entitled(left, end) else plans.default
    invoice = _unpaid(row) or "its invoice"
    return Prospect(
        What.GRACE_ENDS,
        end,
        f"The grace period ends on {moment(end)} ({distance(end, at)}); unless {invoice} is paid "
        f"by then, only {tier} is left.",
    )


def _cancellation(end: datetime | None, at: datetime) -> Prospect:
    when = f" on {moment(end)} ({distance(end, at)})" if end else ", at a moment not told"
    return Prospect(
        What.CANCELS,
        end,
        f"It is to end{when}; access ends with Stripe's event of that, not before.",
    )


def _unpaid(row: Subscription) -> str | None:
    """Return the invoice that counts, which the row's latest one need not be yet."""
    judged = row.projection.judged if row.projection else None
    return judged or row.row.latest_invoice
