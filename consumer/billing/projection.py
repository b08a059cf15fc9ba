"""From a pruned set of facts to the row users read, with the reasons; pure.

The rules P1 to P9 stand in the order in which they speak. Each one that decided something is
named in `reasons` with the ids of the facts it decided by; nothing else ever explains a row.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from consumer.billing.facts import (
    Checkout,
    FactSet,
    Invoice,
    Price,
    Snapshot,
    State,
    canonical,
)
from schemas.plans import Plans
from schemas.plans import Price as PlanPrice
from schemas.stripe_event import GREATEST_CREATED


class Row(msgspec.Struct, frozen=True):
    """What users read of a subscription; times are UTC."""

    status: str
    tier: str
    prices: tuple[str, ...]
    cancel_at_period_end: bool
    cancel_at: datetime | None
    current_period_end: datetime | None
    latest_invoice: str | None
    grace_until: datetime | None
    ambiguous: bool


class Rule(StrEnum):
    """Every rule that can decide something; P4 stands where no snapshot is known."""

    ENDED = "P1_ended"
    LATEST_SNAPSHOT = "P2_latest_snapshot"
    JUDGED_INVOICE = "P3_judged_invoice"
    INVOICE_PRICES = "P4_invoice_prices"
    SETTLED_CHECKOUT = "P5_settled_checkout"
    PAID = "P6_paid"
    FAILED = "P7_failed"
    GRACE = "P8_grace"
    MAPPED_TIER = "P9_mapped_tier"
    UNMAPPED_TIER = "P9_unmapped_tier"


class Reason(msgspec.Struct, frozen=True):
    """A rule that decided something, and the event ids of the facts it decided by."""

    rule: Rule
    facts: tuple[str, ...]


class Projection(msgspec.Struct, frozen=True):
    """A row and why it is so; `mapped` is False where no price stands in the plans file."""

    row: Row
    reasons: tuple[Reason, ...]
    judged: str | None
    mapped: bool


def project(facts: FactSet, plans: Plans, grace: timedelta) -> Projection:
    """Return the row that a pruned, non-empty set of facts says."""
    invoices = [fact for fact in facts if isinstance(fact, Invoice)]
    checkout = next((fact for fact in facts if isinstance(fact, Checkout)), None)
    winner, ambiguous = _find_winner(fact for fact in facts if isinstance(fact, Snapshot))
    if winner is not None and winner.is_ended:
        return _build(winner.after, plans, reasons=[Reason(Rule.ENDED, (winner.id,))])
    judged = _find_judged(winner, invoices)
    priced = None if winner else _find_priced(invoices)
    base = winner.after if winner else _base_without_snapshot(judged, priced)
    reasons = _explain_base(winner, judged, priced)
    status = _decide_status(base.status, winner, judged, checkout, reasons)
    grace_until = None
    if judged is not None and not judged.paid and status == "past_due":
        # From the invoice's first failure, which prune keeps: retries and replays cannot move it.
        grace_until = _moment(judged.at + int(grace.total_seconds()))
        reasons.append(Reason(Rule.GRACE, (judged.id,)))
    return _build(
        replace(base, status=status),
        plans,
        judged=judged,
        grace_until=grace_until,
        ambiguous=ambiguous,
        reasons=reasons,
    )


def _explain_base(
    winner: Snapshot | None, judged: Invoice | None, priced: Invoice | None
) -> list[Reason]:
    """Name the rules P2 to P4 that decided what the row starts from."""
    reasons = []
    if winner is not None:
        reasons.append(Reason(Rule.LATEST_SNAPSHOT, (winner.id,)))
    if judged is not None:
        reasons.append(Reason(Rule.JUDGED_INVOICE, (judged.id,)))
    if priced is not None:
        reasons.append(Reason(Rule.INVOICE_PRICES, (priced.id,)))
    return reasons


def _decide_status(
    status: str,
    winner: Snapshot | None,
    judged: Invoice | None,
    checkout: Checkout | None,
    reasons: list[Reason],
) -> str:
    """Return the status after P5 to P7, and add each of them that changed it to `reasons`."""
    if checkout is not None and checkout.settled and status == "incomplete":
        status = checkout.says
        reasons.append(Reason(Rule.SETTLED_CHECKOUT, (checkout.id,)))
    if judged is not None and _lifts(judged, status):
        status = "active"
        reasons.append(Reason(Rule.PAID, (judged.id,)))
    if judged is not None and _lowers(judged, status, winner):
        status = "past_due"
        reasons.append(Reason(Rule.FAILED, (judged.id,)))
    return status


def _find_winner(snapshots: Iterable[Snapshot]) -> tuple[Snapshot | None, bool]:
    """P2: the latest snapshot by links, then by clock; and whether it is a tie.

    Stamps are whole seconds and off by one at times. Each change leaves one state and enters
    another, so the last state is the one entered more often than it was left. A state that we
    saw but no link enters (created, a lost event) was entered once.
    """
    snapshots = list(snapshots)
    if len(snapshots) <= 1:
        return next(iter(snapshots), None), False
    links = [fact for fact in snapshots if fact.is_link]
    entered = Counter(fact.after for fact in links)
    left = Counter(fact.before for fact in links)
    final = [fact for fact in snapshots if max(1, entered[fact.after]) > left[fact.after]]
    final = final or snapshots
    newest = max(fact.at for fact in final)
    last = [fact for fact in final if fact.at == newest]
    winner = max(last, key=lambda fact: (fact.id, canonical(fact)))
    return winner, len({fact.after for fact in last}) > 1


def _find_judged(winner: Snapshot | None, invoices: Iterable[Invoice]) -> Invoice | None:
    """P3: the invoice that matters, by identity and never "the last invoice event"."""
    newest = max(invoices, key=lambda fact: (fact.issued, fact.invoice), default=None)
    if newest is None or winner is None or winner.after.latest_invoice is None:
        return newest
    if newest.issued > winner.at:
        return newest
    named = winner.after.latest_invoice
    return next((fact for fact in invoices if fact.invoice == named), None)


def _find_priced(invoices: Iterable[Invoice]) -> Invoice | None:
    """P4: the newest invoice that names prices."""
    return max(
        (fact for fact in invoices if fact.prices),
        key=lambda fact: (fact.issued, fact.invoice),
        default=None,
    )


def _base_without_snapshot(judged: Invoice | None, priced: Invoice | None) -> State:
    """P4 where no snapshot is known: what the invoices suggest."""
    return State(
        status=judged.says if judged else "incomplete",
        prices=priced.prices if priced else (),
        tier_hint=None,
        cancel_at_period_end=False,
        cancel_at=None,
        latest_invoice=judged.invoice if judged else None,
        period_end=priced.period_end if priced else None,
        pending=False,
    )


def _lifts(judged: Invoice, status: str) -> bool:
    """P6: a paid invoice never becomes unpaid, whatever the times."""
    return judged.paid and status in {"past_due", "incomplete", "unpaid"}


def _lowers(judged: Invoice, status: str, winner: Snapshot | None) -> bool:
    """P7: only news may contradict a snapshot.

    An active snapshot younger than the failure means that Stripe forgave it; with a pending
    update Stripe keeps the subscription active while that invoice fails.
    """
    if judged.paid or judged.says != "past_due" or status not in {"active", "trialing"}:
        return False
    return winner is None or (judged.at >= winner.at and not winner.after.pending)


def _build(
    state: State,
    plans: Plans,
    *,
    reasons: Iterable[Reason],
    judged: Invoice | None = None,
    grace_until: datetime | None = None,
    ambiguous: bool = False,
) -> Projection:
    tier, mapped = plans.tier_of(map(_plan_price, state.prices), state.tier_hint)
    row = Row(
        status=state.status,
        tier=tier,
        prices=tuple(price.id for price in state.prices),
        cancel_at_period_end=state.cancel_at_period_end,
        cancel_at=_moment(state.cancel_at),
        current_period_end=_moment(state.period_end),
        latest_invoice=state.latest_invoice,
        grace_until=grace_until,
        ambiguous=ambiguous,
    )
    reason = Reason(Rule.MAPPED_TIER if mapped else Rule.UNMAPPED_TIER, ())
    return Projection(row, (*reasons, reason), judged.invoice if judged else None, mapped)


def _plan_price(price: Price) -> PlanPrice:
    return PlanPrice(price.id, price.product or None, price.lookup_key or None)


def _moment(seconds: int | None) -> datetime | None:
    # Stripe's times may reach the last second that can be stored; a grace added to it may not.
    return None if seconds is None else datetime.fromtimestamp(min(seconds, GREATEST_CREATED), UTC)
