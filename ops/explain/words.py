"""Every closed set that an explanation draws on, as sentences for a support engineer; pure.

One table a set: rules of the projection, why a subscription does not decide, why an event told
nothing new. What decided is read from the core's own reasons; nothing here decides again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from consumer.billing.entitlement import Outranked
from consumer.billing.facts import Checkout, Fact, Invoice, Snapshot
from consumer.billing.handlers import NoFact
from consumer.billing.outcome import Unchanged
from consumer.billing.projection import Reason, Row, Rule
from consumer.storage.dead_letters import Reason as SetAside

EXACT_BELOW = 10
"""So many of a unit are told with the next smaller one."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A rule that decided something, the events it decided by, and a sentence that says it."""

    rule: Rule
    events: tuple[str, ...]
    sentence: str


OUTRANKED: Mapping[Outranked, str] = {
    Outranked.NOT_ENTITLED: "another one gives access",
    Outranked.ENDED: "another one has not ended",
    Outranked.LOWER_TIER: "its tier is lower",
    Outranked.EARLIER_PERIOD_END: "its tier is the same, and its period ends earlier",
    Outranked.LESSER_ID: "all else is equal, and the greater id decides",
}

WHY_NOTHING: Mapping[str, str] = {
    Unchanged.ALREADY_ENDED: "the subscription had ended, or ends later than this says",
    Unchanged.SUPERSEDED: "newer events of the subscription were known",
    Unchanged.NOT_LATEST_INVOICE: "another invoice, or an earlier event of this one, decides",
    Unchanged.SAME_FACT: "the row stays as it was",
    NoFact.TYPE: "an event of this kind says nothing about a subscription",
    NoFact.NO_SUBSCRIPTION: "it belongs to no subscription",
    NoFact.NO_CUSTOMER: "it names no customer",
    NoFact.MANUAL_INVOICE: "an invoice made by hand does not touch the billing cycle",
    SetAside.HANDLER: "hookline's own code raised on it",
    SetAside.DATA: "PostgreSQL refused what it holds",
    SetAside.UNDECODABLE: "no event can be read from it",
    SetAside.UNSIGNED: "its signature is missing or not ours",
}


def ground(reason: Reason, facts: Mapping[str, Fact], row: Row) -> Ground:
    """Put one reason of a projection into a sentence; `facts` by event id."""
    decided_by = [facts[event_id] for event_id in reason.facts]
    return Ground(reason.rule, reason.facts, _RULES[reason.rule](decided_by, row))


def _ended(facts: Sequence[Fact], row: Row) -> str:
    (end,) = facts
    return (
        f"It ended on {moment(end.at)}: Stripe said {status(row.status)} ({end.id}), "
        "and never revives what has ended."
    )


def _latest_snapshot(facts: Sequence[Fact], row: Row) -> str:
    (fact,) = facts
    said = status(fact.after.status) if isinstance(fact, Snapshot) else row.status
    tie = (
        " Another state bears the same second, and nothing tells which came last: this may be "
        "wrong until the next event."
        if row.ambiguous
        else ""
    )
    return f"Stripe's latest word on it is {said}, of {moment(fact.at)} ({fact.id}).{tie}"


def _judged_invoice(facts: Sequence[Fact], _row: Row) -> str:
    (fact,) = facts
    what = "it was paid" if isinstance(fact, Invoice) and fact.paid else "its payment first failed"
    name = fact.invoice if isinstance(fact, Invoice) else ""
    return f"The invoice that counts is {name}; {what} on {moment(fact.at)} ({fact.id})."


def _invoice_prices(facts: Sequence[Fact], _row: Row) -> str:
    (fact,) = facts
    name = fact.invoice if isinstance(fact, Invoice) else ""
    return f"Its plan and period are those of invoice {name} ({fact.id})."


def _settled_checkout(facts: Sequence[Fact], _row: Row) -> str:
    (fact,) = facts
    says = status(fact.says) if isinstance(fact, Checkout) else ""
    return (
        f"Its checkout was settled on {moment(fact.at)} ({fact.id}), which makes an incomplete "
        f"subscription {says}."
    )


def _paid(_facts: Sequence[Fact], _row: Row) -> str:
    return "Paid is paid: that makes it active, whatever else was said before or after."


def _failed(_facts: Sequence[Fact], _row: Row) -> str:
    return "That failure is news to Stripe's latest word, which makes it past due."


def _grace(facts: Sequence[Fact], row: Row) -> str:
    (fact,) = facts
    if row.grace_until is None:
        return "It is in its grace period."
    lasts = duration(row.grace_until - datetime.fromtimestamp(fact.at, UTC))
    return (
        f"Its grace period is {lasts} from that first failure, to {moment(row.grace_until)}; "
        "further failures do not move it."
    )


def _mapped_tier(_facts: Sequence[Fact], row: Row) -> str:
    if len(row.prices) > 1:
        return f"{row.tier} is the highest tier that the plans file gives to {_all(row.prices)}."
    return f"The plans file gives {row.tier} to {_all(row.prices)}."


def _unmapped_tier(_facts: Sequence[Fact], row: Row) -> str:
    known = "No price is known"
    if row.prices:
        known = f"The plans file does not know {_all(row.prices, 'or')}"
    return f"{known}, so its metadata.tier or else the default gives {row.tier}."


_RULES: Mapping[Rule, Callable[[Sequence[Fact], Row], str]] = {
    Rule.ENDED: _ended,
    Rule.LATEST_SNAPSHOT: _latest_snapshot,
    Rule.JUDGED_INVOICE: _judged_invoice,
    Rule.INVOICE_PRICES: _invoice_prices,
    Rule.SETTLED_CHECKOUT: _settled_checkout,
    Rule.PAID: _paid,
    Rule.FAILED: _failed,
    Rule.GRACE: _grace,
    Rule.MAPPED_TIER: _mapped_tier,
    Rule.UNMAPPED_TIER: _unmapped_tier,
}


def told(fact: Fact) -> str:
    """Say what one event tells."""
    match fact:
        case Snapshot():
            return _snapshot(fact)
        case Invoice():
            return f"invoice {fact.invoice} {'is paid' if fact.paid else 'was not paid'}"
        case Checkout():
            return f"checkout {'settled' if fact.settled else 'not settled yet'}"


def _snapshot(fact: Snapshot) -> str:
    after = fact.after
    parts = [status(after.status), *(price.id for price in after.prices)]
    if after.cancel_at is not None:
        parts.append(f"to end {day(after.cancel_at)}")
    elif after.cancel_at_period_end:
        parts.append("to end with its period")
    if after.period_end is not None and not fact.is_ended:
        parts.append(f"period to {day(after.period_end)}")
    return ", ".join(parts)


def status(text: str) -> str:
    """Return a status as people say it."""
    return text.replace("_", " ")


def moment(at: datetime | int) -> str:
    """Return a moment to the minute, in UTC."""
    return f"{_utc(at):%-d %b %Y %H:%M} UTC"


def day(at: datetime | int) -> str:
    """Return the day of a moment, in UTC."""
    return f"{_utc(at):%-d %b %Y}"


def duration(span: timedelta) -> str:
    """Return a length of time in its one or two greatest units."""
    seconds = int(abs(span.total_seconds()))
    for unit, length, smaller, part in (
        ("day", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= (2 * length if unit == "day" else length):
            count, rest = divmod(seconds, length)
            more = f" {rest // part} {smaller}" if rest // part and count < EXACT_BELOW else ""
            return f"{count} {unit}{'s' if unit == 'day' else ''}{more}"
    return f"{seconds} s"


def distance(at: datetime, now: datetime) -> str:
    """Return how far a moment is from now, as "in 5 h" or "5 h ago"."""
    span = duration(at - now)
    return f"in {span}" if at > now else f"{span} ago"


def _utc(at: datetime | int) -> datetime:
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int) else at.astimezone(UTC)


def _all(names: Sequence[str], word: str = "and") -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]
