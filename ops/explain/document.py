"""An explanation as a JSON document: names are stable, what is added later is new names; pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import asdict

from consumer.billing.projection import Row
from consumer.recompute import Difference
from ops.explain.explanation import Comparison, Explanation, Standing
from ops.explain.prospects import Prospect
from ops.explain.timeline import Entry
from ops.explain.words import Ground
from schemas.entitlement import Entitlement

Json = dict[str, Any]


def to_document(explanation: Explanation) -> Json:
    """Return the whole explanation; times are ISO 8601 in UTC, delays in seconds."""
    standings = explanation.standings
    return {
        "customer": explanation.customer_id,
        "reference": explanation.reference,
        "known": explanation.known,
        "at": _time(explanation.question.at),
        "as_of": explanation.question.as_of,
        "answer": _answer(explanation.answer),
        "sentence": explanation.sentence,
        "why": _why(standings[0]) if standings else None,
        "next": [_prospect(one) for one in explanation.prospects],
        "subscriptions": [_standing(one) for one in standings],
        "without": _comparison(explanation.comparison),
        "facts_up_to": _time(explanation.facts_up_to),
        "warnings": list(explanation.warnings),
        "timeline": [_entry(one) for one in explanation.timeline.entries],
        "later_entries": explanation.timeline.later,
    }


def _answer(answer: Entitlement) -> Json:
    document = answer.to_document()
    del document["source"]
    return document


def _why(standing: Standing) -> Json:
    return {
        "subscription": standing.subscription.subscription_id,
        "sentence": standing.sentence,
        "rules": _grounds(standing.grounds),
    }


def _grounds(grounds: Iterable[Ground]) -> list[Json]:
    return [
        {"rule": one.rule.value, "events": list(one.events), "sentence": one.sentence}
        for one in grounds
    ]


def _standing(standing: Standing) -> Json:
    one = standing.subscription
    return {
        "subscription": one.subscription_id,
        "decides": standing.decides,
        "entitled": standing.entitled,
        "sentence": standing.sentence,
        **_row(one.row),
        "rules": _grounds(standing.grounds),
    }


def _row(row: Row) -> Json:
    return {name: _plain(value) for name, value in asdict(row).items()}


def _prospect(prospect: Prospect) -> Json:
    return {"what": prospect.what.value, "at": _time(prospect.at), "sentence": prospect.sentence}


def _comparison(comparison: Comparison | None) -> Json | None:
    if comparison is None:
        return None
    return {
        "events": list(comparison.events),
        "answer": _answer(comparison.answer),
        "differences": [_difference(one) for one in comparison.differences],
    }


def _difference(one: Difference) -> Json:
    return {
        "subscription": one.subscription_id,
        "field": one.field,
        "with": _plain(one.stored),
        "without": _plain(one.recomputed),
    }


def _entry(entry: Entry) -> Json:
    return {
        "at": _time(entry.at),
        "event": entry.event_id,
        "title": entry.title,
        "subscription": entry.subscription_id,
        "told": entry.told,
        "changes": list(entry.changes),
        "outcome": entry.outcome,
        "reason": entry.reason,
        "why": entry.why,
        "arrival": entry.arrival,
        "received_at": _time(entry.received_at),
        "delay_seconds": entry.delay.total_seconds() if entry.delay is not None else None,
        "late": entry.late,
        "same_second": entry.same_second,
        "left_out": entry.left_out,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, Row):
        return _row(value)
    return list(value) if isinstance(value, tuple) else value


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else None
