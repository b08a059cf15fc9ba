"""One pass over the records of a batch: what it covers, what it found, what follows; no I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from consumer.decode import Decoded, Incoming
from consumer.fold import Changes
from consumer.records import Record
from consumer.storage.dead_letters import DeadLetter
from consumer.storage.hints import Seen
from consumer.storage.ledger import RecordedEvent
from consumer.storage.marks import backed_marks
from consumer.storage.positions import Position
from schemas.labels import ByEvent, EventReason, Layer, LetterReason, Outcome
from schemas.metrics import ConsumerMetrics, type_label
from schemas.redis_keys import Mark

log = structlog.get_logger()

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of a polled batch one pass covers; all of it, unless PostgreSQL refused data."""

    move_positions: bool = True
    condemned: Mapping[Place, str] = field(default_factory=dict)
    record_condemned: bool = True


WHOLE = Scope()


@dataclass(slots=True)
class Pass:
    """What one pass over records found and changed."""

    seen: Seen
    stored: dict[int, Position]
    fresh: list[Incoming]
    duplicates: dict[Layer, int]
    second_renderings: list[str]
    letters: list[DeadLetter]
    changes: Changes = field(default_factory=Changes)
    moved: dict[int, Position] = field(default_factory=dict)

    def note_recorded(self, recorded: Mapping[str, RecordedEvent]) -> None:
        """Count events that are recorded already, and those that came in another rendering."""
        known = [event for event in self.fresh if event.event.id in recorded]
        self.duplicates[Layer.EVENT_ID] = sum(
            recorded[event.event.id].outcome != "failed" for event in known
        )
        self.second_renderings += [
            event.event.id
            for event in known
            if recorded[event.event.id].api_version != event.event.api_version
        ]


def start(decoded: Decoded, seen: Seen, stored: dict[int, Position]) -> Pass:
    """Drop what the positions or the marks know as applied."""
    ahead = [event for event in decoded.events if _is_ahead(event.record, stored)]
    marked = backed_marks(seen.marks, stored.values())
    fresh = [event for event in ahead if event.event.id not in marked]
    duplicates = {
        Layer.BATCH: decoded.repeats,
        Layer.POSITION: len(decoded.events) - len(ahead),
        Layer.REDIS: len(ahead) - len(fresh),
    }
    letters = [letter for letter in decoded.letters if _is_ahead(letter.record, stored)]
    return Pass(seen, stored, fresh, duplicates, list(decoded.second_renderings), letters)


def _is_ahead(record: Record, stored: Mapping[int, Position]) -> bool:
    """Tell whether no position covers a record; a replay has none, and asks the event ids."""
    position = stored.get(record.partition)
    return position is None or record.offset >= position.next_offset


def move_past(stored: Mapping[int, Position], records: Sequence[Record]) -> dict[int, Position]:
    """Return the positions after these records; one that is further on already stays."""
    ends: dict[int, int] = {}
    for record in records:
        ends[record.partition] = max(record.offset + 1, ends.get(record.partition, 0))
    moved = {p: stored[p].moved_to(max(end, stored[p].next_offset)) for p, end in ends.items()}
    return {**stored, **moved}


def marks_of(pass_: Pass) -> dict[str, Mark]:
    """Mark what stands recorded now, where a position backs the mark.

    A failed event gets none, or it would not be tried again.
    """
    failed = {letter.event_id for letter in pass_.changes.letters}
    return {
        event.event.id: Mark(
            position.topic_id, position.epoch, event.record.partition, event.record.offset
        )
        for event in pass_.fresh
        if event.event.id not in failed
        and (position := pass_.stored.get(event.record.partition)) is not None
    }


def count(pass_: Pass, metrics: ConsumerMetrics, now: datetime) -> None:
    """Count what one committed pass did."""
    changes = pass_.changes
    outcomes = Counter((row["type"], row["outcome"], row["reason"]) for row in changes.events)
    for outcome, count in outcomes.items():
        metrics.events.labels(*_labels(*outcome)).inc(count)
    for reason, count in Counter(letter.reason for letter in pass_.letters).items():
        metrics.dead_letters.labels(LetterReason(reason)).inc(count)
    for layer, count in pass_.duplicates.items():
        metrics.duplicates.labels(layer).inc(count)
    for event_id in pass_.second_renderings:
        metrics.second_renderings.inc()
        log.warning("second_rendering", event_id=event_id)
    metrics.locks_held.inc(pass_.seen.locks_held_by_others)
    metrics.unmapped_prices.inc(changes.unmapped)
    metrics.ambiguous.inc(changes.ambiguous)
    for incoming in pass_.fresh:
        metrics.end_to_end_seconds.observe(_age(incoming.received_at, now))
        metrics.created_to_commit_seconds.observe(_age(incoming.created_at, now))


def _labels(kind: str, outcome: str, reason: str | None) -> ByEvent:
    """Return how the row of an event is counted."""
    return ByEvent(type_label(kind), Outcome(outcome), EventReason(reason or ""))


def _age(moment: datetime, now: datetime) -> float:
    return max((now - moment).total_seconds(), 0)
