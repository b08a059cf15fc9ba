"""From a dossier to an explanation: the answer, why, what comes next, what would differ; pure.

The answer is what the gatekeeper gives: from the stored rows, at this moment. Asked about another
moment it is what those rows would be, folded from the events that Stripe had created by then.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from consumer.billing.entitlement import find_deciding, is_entitled, why_outranked
from consumer.billing.projection import Rule
from consumer.recompute import Difference
from ops.explain.dossier import Dossier
from ops.explain.prospects import Prospect, foresee, say_access
from ops.explain.timeline import Timeline, tell
from ops.explain.views import Question, Subscription, Views, differences
from ops.explain.words import OUTRANKED, Ground, day, distance, moment, status
from schemas.entitlement import Entitlement
from schemas.plans import Plans

SHOWN = 3
"""So many event ids are listed in a sentence."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One subscription in an explanation: whether it decides, and if not, why not."""

    subscription: Subscription
    decides: bool
    entitled: bool
    sentence: str
    grounds: tuple[Ground, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer without some events, and each field that would differ."""

    events: tuple[str, ...]
    answer: Entitlement
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that `hookline explain` has to say; the deciding subscription stands first."""

    customer_id: str
    reference: str | None
    question: Question
    known: bool
    answer: Entitlement
    standings: tuple[Standing, ...]
    prospects: tuple[Prospect, ...]
    timeline: Timeline
    warnings: tuple[str, ...]
    comparison: Comparison | None
    facts_up_to: datetime | None = None
    """Up to when only facts are left: the events were removed."""

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        name, answer = self.customer_id, self.answer
        when = f"On {moment(self.question.at)} " if self.question.as_of else ""
        may = "could use" if self.question.as_of else "may use"
        if not self.known:
            return f"{name} has never been seen: not entitled, {answer.tier} by default."
        if not answer.entitled:
            why = "no subscription gives access" if self.standings else "there is no subscription"
            return f"{when}{name} {may} only the default tier, {answer.tier}: {why}."
        until = ""
        if answer.status == "past_due" and answer.grace_until is not None:
            span = distance(answer.grace_until, self.question.at)
            until = f" until {moment(answer.grace_until)} ({span})"
        return f"{when}{name} {may} {answer.tier}{until}."


def explain(dossier: Dossier, question: Question, plans: Plans, grace: timedelta) -> Explanation:
    """Explain one customer's answer; stores nothing, asks no clock."""
    views = Views(dossier, plans, grace)
    rows = views.rows(question)
    answer = views.answer(rows, question.at)
    stored = dossier.customer
    return Explanation(
        customer_id=dossier.customer_id,
        reference=stored.reference if stored else None,
        question=question,
        known=dossier.is_known,
        answer=answer,
        standings=tuple(_rank(rows, question, plans)),
        prospects=tuple(foresee(rows, question.at, plans)),
        timeline=tell(dossier, question),
        warnings=(
            *_mismatches(views),
            *_set_aside(dossier),
            *_hindsight(views, question, answer),
            *_removed(dossier, question),
        ),
        comparison=_compare(views, rows, question) if question.without else None,
        facts_up_to=dossier.facts_up_to,
    )


def _rank(rows: list[Subscription], question: Question, plans: Plans) -> list[Standing]:
    """Return all subscriptions, the deciding one first, each with a sentence of its own."""
    at = question.at
    deciding = find_deciding(rows, at, plans)
    if deciding is None:
        return []
    found = [_stand(deciding, question, decides=True, why=_say_basis(deciding))]
    for row in rows:
        if row is not deciding:
            why = f"It does not decide: {OUTRANKED[why_outranked(row, deciding, at, plans)]}."
            found.append(_stand(row, question, decides=False, why=why))
    return found


def _stand(row: Subscription, question: Question, *, decides: bool, why: str) -> Standing:
    return Standing(
        row,
        decides,
        is_entitled(row, question.at),
        " ".join(filter(None, (say_access(row, question.at), why))),
        tuple(row.grounds),
    )


def _say_basis(row: Subscription) -> str:
    """Say on what the grounds stand, where it is not events that made the row what it is."""
    if row.projection is not None and row.projection.row != row.row:
        said = row.projection.row
        return f"The recorded events say {status(said.status)}, {said.tier}:"
    rules = {one.rule for one in row.grounds}
    if rules & {Rule.ENDED, Rule.LATEST_SNAPSHOT}:
        return ""
    if not rules:
        return "No event or fact of it is left to tell why."
    return "No event of the subscription itself is known, only of its invoices or checkout."


def _mismatches(views: Views) -> list[str]:
    """Say where the stored rows are not what the recorded events say."""
    findings, customer = views.findings(), views.dossier.customer_id
    sentences = [
        f"{event_id} is recorded, and cannot be read any more: {why}"
        for event_id, why in findings.unreadable
    ]
    if views.dossier.is_known and findings.differences:
        names = sorted({one.subscription_id or customer for one in findings.differences})
        fields = sorted({one.field for one in findings.differences})
        sentences.append(
            f"What is stored differs from what the recorded events say by today's settings "
            f"({', '.join(names)}: {', '.join(fields)}). The gatekeeper answers by what is "
            f"stored. To look at it: hookline recompute --customer {customer}"
        )
    return sentences


def _set_aside(dossier: Dossier) -> list[str]:
    """Say that something of the customer does not count, for what it told is missing."""
    failed = {one.event.event_id for one in dossier.events if one.event.outcome == "failed"}
    failed |= {one.event_id or f"dead letter {one.dead_letter_id}" for one in dossier.letters}
    if not failed:
        return []
    return [
        f"{_list(sorted(failed))} could not be applied and counts for nothing: see the timeline."
    ]


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
    return ", ".join(names[:SHOWN]) + more


def _hindsight(views: Views, question: Question, answer: Entitlement) -> list[str]:
    """Say what hookline could not know at the moment in question, and what it answered then."""
    later = [
        one.event.event_id
        for one in views.told(question)
        if one.reading.fact is not None and one.event.processed_at > question.at
    ]
    if not question.as_of or not later:
        return []
    then = views.answer(views.rows_known_then(question), question.at)
    word = "entitled" if then.entitled else "not entitled"
    same = (then.tier, then.entitled) == (answer.tier, answer.entitled)
    said = f"the same, {then.tier}" if same else f"{then.tier}, {word}"
    return [
        f"hookline had not applied {_list(later)} by then. By what it had, the answer was {said}.",
    ]


def _removed(dossier: Dossier, question: Question) -> list[str]:
    """Say that the moment in question lies where only what still matters is known."""
    up_to = dossier.facts_up_to
    if not question.as_of or up_to is None or question.at >= up_to:
        return []
    told = (
        "what was true then is told by the facts that are left, which are those that still matter"
    )
    return [f"Events before {day(up_to)} were removed: {told}."]


def _compare(views: Views, rows: list[Subscription], question: Question) -> Comparison:
    left = views.rows_without(question)
    return Comparison(
        tuple(sorted(question.without)),
        views.answer(left, question.at),
        tuple(differences(rows, left)),
    )
