"""A customer's events in Stripe's time, with what really happened to each; pure.

What an event changed is the recorded audit trail, not a second fold: that depends on the order
of arrival, and so do the marks `late` and `same second` that say why it reads as it does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consumer.fetched import PREFIX
from consumer.recall import Recalled
from consumer.storage.grace import GRACE_EVENT
from consumer.storage.history import OpenLetter, TrailEntry
from ops.explain.dossier import Dossier
from ops.explain.views import Question
from ops.explain.words import WHY_NOTHING, moment, status, told

TIMES = frozenset({"grace_until", "current_period_end", "cancel_at"})

UNNAMED = "it changed only what the audit trail does not name, such as prices or a tie"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline; an entry without `arrival` is no event that is still recorded."""

    at: datetime
    event_id: str | None
    title: str
    subscription_id: str | None = None
    told: str | None = None
    changes: tuple[str, ...] = ()
    outcome: str | None = None
    reason: str | None = None
    why: str | None = None
    """Why it changed nothing that is named, or failed."""
    arrival: int | None = None
    received_at: datetime | None = None
    delay: timedelta | None = None
    late: bool = False
    """Newer events of its subscription came before it."""
    same_second: bool = False
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """Entries in Stripe's time; `later` is how many lie after the moment in question."""

    entries: tuple[Entry, ...] = ()
    later: int = 0


def tell(dossier: Dossier, question: Question) -> Timeline:
    """Return the timeline up to the moment in question."""
    changes: dict[str, list[TrailEntry]] = defaultdict(list)
    for change in dossier.trail:
        changes[change.event_id].append(change)
    letters = {one.event_id: one for one in dossier.letters if one.event_id}
    entries = [
        *_events(dossier.events, changes, letters, question.without),
        *_others(dossier, changes),
    ]
    entries.sort(key=lambda entry: (entry.at, entry.arrival or 0, entry.event_id or ""))
    shown = [one for one in entries if not question.as_of or one.at <= question.at]
    return Timeline(tuple(shown), len(entries) - len(shown))


def _events(
    events: Sequence[Recalled],
    changes: Mapping[str, Sequence[TrailEntry]],
    letters: Mapping[str, OpenLetter],
    without: Iterable[str],
) -> Iterable[Entry]:
    """Yield recorded events, numbered in their order of arrival."""
    arrived = sorted(
        events, key=lambda one: (one.event.received_at, one.event.kafka_offset, one.event.event_id)
    )
    seconds = Counter((one.reading.subscription, one.event.created_at) for one in arrived)
    newest: dict[str | None, datetime] = {}
    for number, one in enumerate(arrived, 1):
        event, subscription = one.event, one.reading.subscription
        before = newest.get(subscription)
        newest[subscription] = max(before or event.created_at, event.created_at)
        fact = one.reading.fact
        yield Entry(
            at=event.created_at,
            event_id=event.event_id,
            title=event.type,
            subscription_id=subscription,
            told=told(fact) if fact else None,
            changes=tuple(map(say_change, changes.get(event.event_id, ()))),
            outcome=event.outcome,
            reason=event.reason,
            why=_why(one, letters.get(event.event_id), changes.get(event.event_id)),
            arrival=number,
            received_at=event.received_at,
            delay=event.received_at - event.created_at,
            late=subscription is not None and before is not None and before > event.created_at,
            same_second=subscription is not None and seconds[subscription, event.created_at] > 1,
            left_out=event.event_id in without,
        )


def _others(dossier: Dossier, changes: Mapping[str, Sequence[TrailEntry]]) -> Iterable[Entry]:
    """Yield what is no recorded event: changes of events gone or of repairs, dead letters."""
    recorded = {one.event.event_id for one in dossier.events}
    for event_id, entries in changes.items():
        if event_id in recorded:
            continue
        made: dict[str | None, list[TrailEntry]] = defaultdict(list)
        for entry in entries:
            made[entry.subscription_id].append(entry)
        for subscription_id, own in made.items():
            yield Entry(
                at=own[0].event_created_at,
                event_id=event_id,
                title=_title(event_id),
                subscription_id=subscription_id,
                changes=tuple(map(say_change, own)),
            )
    for letter in dossier.letters:
        if letter.event_id not in recorded:
            yield Entry(
                at=letter.first_failed_at,
                event_id=letter.event_id,
                title="a record set aside",
                outcome="failed",
                reason=letter.reason,
                why=_set_aside(letter),
            )


def _title(event_id: str) -> str:
    """Name what is behind an entry of the trail that is no recorded event."""
    if event_id.startswith("recompute_"):
        return "hookline recompute --apply"
    if event_id.startswith(PREFIX):
        return "asked of Stripe"
    if event_id.startswith(GRACE_EVENT):
        return "time passed"
    return "an event no longer recorded"


def _why(
    one: Recalled, letter: OpenLetter | None, changes: Sequence[TrailEntry] | None
) -> str | None:
    event = one.event
    if letter is not None:
        return _set_aside(letter)
    if one.error is not None:
        return f"it cannot be read any more: {one.error}"
    if event.reason is None:
        return None if changes else UNNAMED
    known = WHY_NOTHING.get(event.reason, event.reason)
    return f"{known}: {event.error}" if event.error else known


def _set_aside(letter: OpenLetter) -> str:
    why = WHY_NOTHING.get(letter.reason, letter.reason)
    tries = f"{letter.attempts} times, " if letter.attempts > 1 else ""
    return f"{why} ({tries}open dead letter {letter.dead_letter_id}): {letter.error}"


def say_change(change: TrailEntry) -> str:
    """Say what one entry of the audit trail changed; what its name says already is left out."""
    action = change.action.replace("_", " ")
    if change.action == "subscription_started" or (
        change.action == "backfilled" and not change.before
    ):
        values = [status(str(change.after.get(name))) for name in ("status", "tier")]
        return f"{action}: {', '.join(values)}"
    moves = filter(None, (_move(change, name) for name in change.after))
    return ": ".join(filter(None, (action, ", ".join(moves))))


def _move(change: TrailEntry, name: str) -> str | None:
    old, new = change.before.get(name), change.after[name]
    if new is None or isinstance(new, bool | list):
        return None
    if name in TIMES:
        return f"to {moment(datetime.fromisoformat(str(new)))}"
    return str(new) if old is None else f"{_text(name, old)} -> {_text(name, new)}"


def _text(name: str, value: Any) -> str:
    return status(str(value)) if name == "status" else str(value)
