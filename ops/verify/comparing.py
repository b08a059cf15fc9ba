"""A stored subscription against what Stripe shows: what differs, and why; pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from consumer.billing.facts import ENDED, NO_FACTS, Snapshot
from consumer.billing.merge import merge
from consumer.billing.projection import Projection, project
from consumer.fetched import Fetched
from consumer.recompute import FIELDS, Findings, Recomputed, StoredState
from schemas.labels import DriftKind as Kind
from schemas.plans import Plans

COMPARED = tuple(name for name in FIELDS if name != "ambiguous")
"""A tie that was decided rightly is nothing to report."""


MENDABLE = frozenset(
    {Kind.EVENT_MISSING, Kind.EVENT_NOT_APPLIED, Kind.TIE_DECIDED_WRONGLY, Kind.ROW_CHANGED}
)
"""What merging Stripe's answer puts right."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field that differs."""

    name: str
    stored: Any
    stripe: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """One subscription, as it is stored and as it would be if Stripe's answer were merged."""

    fetched: Fetched
    stored: StoredState | None
    merged: Projection

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields that differ; that there is no row is one."""
        new = self.merged.row
        if self.stored is None:
            return (Field("row", "missing", new),)
        old = self.stored.row
        return tuple(
            Field(name, getattr(old, name), getattr(new, name))
            for name in COMPARED
            if getattr(old, name) != getattr(new, name)
        )

    @property
    def is_unmapped(self) -> bool:
        """Tell whether the plans file lacks every price of a subscription that is not over."""
        return not self.merged.mapped and self.merged.row.status not in ENDED

    @property
    def is_sound(self) -> bool:
        """Tell whether there is nothing to report."""
        return not self.fields and not self.is_unmapped


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be reported of one subscription; `customer_id` is "" where nobody knows it."""

    subscription_id: str
    customer_id: str
    kind: Kind
    sentence: str
    fields: tuple[Field, ...] = ()
    fetched: Fetched | None = None


def compare(
    stored: StoredState | None, fetched: Fetched, plans: Plans, grace: timedelta
) -> Comparison:
    """Merge what Stripe answered into what is known, without writing it.

    An event that is newer than the answer counts, as it would in the row.
    """
    known = (stored.facts if stored else None) or NO_FACTS
    return Comparison(fetched, stored, project(merge(known, fetched.facts), plans, grace))


def explain(comparison: Comparison, findings: Findings, set_aside: Collection[int]) -> Difference:
    """Say why a subscription differs.

    `findings` are the customer's recorded events folded again, `set_aside` the open dead letters
    that are about this subscription.
    """
    name = comparison.fetched.subscription or ""
    recomputed = next((one for one in findings.subscriptions if one.subscription_id == name), None)
    kind, sentence = _judge(comparison, recomputed, set_aside)
    return Difference(
        name, comparison.fetched.customer, kind, sentence, comparison.fields, comparison.fetched
    )


def _judge(
    comparison: Comparison,
    recomputed: Recomputed | None,
    set_aside: Collection[int],
) -> tuple[Kind, str]:
    if not comparison.fields:
        prices = ", ".join(comparison.merged.row.prices) or "it has none"
        return Kind.PLAN_UNMAPPED, (
            f"the plans file knows none of its prices ({prices}): add one, start the consumers "
            "again, and run `hookline recompute --apply`"
        )
    if set_aside:
        numbers = " ".join(map(str, sorted(set_aside)))
        return Kind.EVENT_NOT_APPLIED, (
            f"an event of it is set aside: `hookline dead-letters replay {numbers}`"
        )
    if recomputed is not None and recomputed.differences:
        return _judge_row(recomputed)
    if _is_tie(comparison):
        return Kind.TIE_DECIDED_WRONGLY, (
            "two states of it bear the same second, and the one that was taken is not the last"
        )
    facts = (comparison.stored.facts if comparison.stored else None) or NO_FACTS
    latest = max(facts, key=lambda fact: (fact.at, fact.id), default=None)
    after = (
        f"came after {latest.id}, the last that is known" if latest else "of it was ever recorded"
    )
    return Kind.EVENT_MISSING, (
        f"Stripe has it so, and no event {after}; `hookline reconcile` looks for it"
    )


def _judge_row(recomputed: Recomputed) -> tuple[Kind, str]:
    """Tell an event without effect from a row that something else has changed."""
    if recomputed.stored is None:
        return Kind.ROW_CHANGED, "its events are recorded, and its row is gone"
    lacking = _lacking(recomputed)
    if lacking:
        return Kind.EVENT_NOT_APPLIED, (
            f"{', '.join(lacking)} stands recorded, and what it tells is not among the facts"
        )
    names = [one.field for one in recomputed.differences]
    if names == ["tier"]:
        return Kind.ROW_CHANGED, "the plans file gives another tier than when it was written"
    if names == ["grace_until"]:
        return Kind.ROW_CHANGED, "the grace period is another one than when it was written"
    return Kind.ROW_CHANGED, (
        f"its row is not what its own events say ({', '.join(names)}): somebody changed it"
    )


def _lacking(recomputed: Recomputed) -> Sequence[str]:
    facts = recomputed.stored.facts if recomputed.stored else None
    if facts is None:
        return ()
    return sorted(fact.id for fact in recomputed.facts - facts)


def _is_tie(comparison: Comparison) -> bool:
    stored = comparison.stored
    if stored is None or not stored.row.ambiguous:
        return False
    tied = {fact.after for fact in stored.facts or () if isinstance(fact, Snapshot)}
    return any(
        fact.after in tied for fact in comparison.fetched.facts if isinstance(fact, Snapshot)
    )
