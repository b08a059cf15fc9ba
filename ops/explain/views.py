"""A customer's subscriptions as stored, as of a moment, or without some events; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from consumer.billing.entitlement import entitle
from consumer.billing.facts import NO_FACTS, FactSet
from consumer.billing.projection import Projection, Row, project
from consumer.recall import Memory, Recalled
from consumer.recompute import FIELDS, Difference, Findings, recompute
from ops.explain.dossier import Dossier
from ops.explain.words import Ground, ground
from schemas.entitlement import Entitlement
from schemas.plans import Plans


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: at which moment, seen from it (`as_of`) or from now, without which events."""

    at: datetime
    as_of: bool = False
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription as the answer sees it: its row, and the projection that tells why.

    No projection: neither an event nor a readable fact is left of it.
    """

    subscription_id: str
    row: Row
    projection: Projection | None
    facts: FactSet

    @property
    def status(self) -> str:
        """Stripe's status, or what the facts say."""
        return self.row.status

    @property
    def tier(self) -> str:
        """The plan's tier."""
        return self.row.tier

    @property
    def current_period_end(self) -> datetime | None:
        """UTC."""
        return self.row.current_period_end

    @property
    def grace_until(self) -> datetime | None:
        """UTC."""
        return self.row.grace_until

    @property
    def grounds(self) -> list[Ground]:
        """Why its row is so, by the projection's own reasons."""
        if self.projection is None:
            return []
        facts = {fact.id: fact for fact in self.facts}
        return [ground(reason, facts, self.projection.row) for reason in self.projection.reasons]


class Views:
    """One customer's events folded under one condition or another, as a consumer folds them."""

    def __init__(self, dossier: Dossier, plans: Plans, grace: timedelta) -> None:
        self.dossier = dossier
        self.plans = plans
        self._grace = grace

    def rows(self, question: Question) -> list[Subscription]:
        """Return the customer's subscriptions: as they stand, or as they were at a moment."""
        folded = self._fold(self.told(question), question)
        if question.as_of:
            return folded
        known = {one.subscription_id: one for one in folded}
        return [
            Subscription(row.subscription_id, row.row, one.projection, one.facts)
            if (one := known.get(row.subscription_id))
            else Subscription(row.subscription_id, row.row, None, NO_FACTS)
            for row in self.dossier.own
        ]

    def rows_without(self, question: Question) -> list[Subscription]:
        """Return the subscriptions as they would be without the events that are left out."""
        left = [one for one in self.told(question) if one.event.event_id not in question.without]
        return self._fold(left, question)

    def rows_known_then(self, question: Question) -> list[Subscription]:
        """Return the subscriptions as hookline had them at the moment in question."""
        then = [one for one in self.told(question) if one.event.processed_at <= question.at]
        return self._fold(then, question)

    def told(self, question: Question) -> list[Recalled]:
        """Return the events that Stripe had created by the moment in question."""
        return [
            one
            for one in self.dossier.events
            if not question.as_of or one.event.created_at <= question.at
        ]

    def answer(self, rows: Iterable[Subscription], at: datetime) -> Entitlement:
        """Return what the customer may use by these rows."""
        stored = self.dossier.customer
        version = stored.version if stored else 0
        return entitle(self.dossier.customer_id, rows, at, self.plans, version=version)

    def findings(self) -> Findings:
        """Compare all events with what is stored."""
        memory = Memory(self.dossier.customer_id)
        for one in self.dossier.events:
            memory.add(one)
        return recompute(memory, self.dossier.customer, self.dossier.rows, self.plans, self._grace)

    def _fold(self, events: Iterable[Recalled], question: Question) -> list[Subscription]:
        memory = Memory(self.dossier.customer_id)
        for one in self.dossier.events:
            memory.add(one, counts=False)
        for one in events:
            memory.add(one)
        stored = {row.subscription_id: row for row in self.dossier.own}
        elsewhere = {row.subscription_id for row in self.dossier.rows} - stored.keys()
        found = []
        for name in sorted((memory.facts.keys() | stored.keys()) - elsewhere):
            kept = stored[name].facts if name in stored else None
            until = question.at if question.as_of else None
            if facts := memory.facts_with(name, kept or NO_FACTS, until):
                projection = project(facts, self.plans, self._grace)
                found.append(Subscription(name, projection.row, projection, facts))
        return found


def differences(
    before: Iterable[Subscription], after: Iterable[Subscription]
) -> Iterable[Difference]:
    """Yield each field in which two views of the subscriptions differ."""
    old = {one.subscription_id: one.row for one in before}
    new = {one.subscription_id: one.row for one in after}
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            yield Difference(name, "row", old.get(name), new.get(name))
            continue
        for field in FIELDS:
            values = getattr(old[name], field), getattr(new[name], field)
            if values[0] != values[1]:
                yield Difference(name, field, *values)
