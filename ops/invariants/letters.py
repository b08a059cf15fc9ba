"""I10: an open dead letter has a reason, the exact bytes, and a place in the log's past."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text

from consumer.records import Record
from consumer.storage.dead_letters import Reason
from ops.counting import count
from ops.invariants.event_log import Bounds, EventLog
from ops.invariants.positions import Stored, load_positions, require_log
from ops.invariants.subject import Finding, Looking, Subject

LETTERS_AT_ONCE = 100
"""In memory at a time, each beside its record; a body has at most half a megabyte."""

_PAGE = """
SELECT dead_letter_id, event_id, customer_id, reason, topic, partition, kafka_offset, key, body
FROM dead_letters WHERE resolved_at IS NULL AND dead_letter_id > :after {scope}
ORDER BY dead_letter_id LIMIT :size
"""
_SCOPE = "AND customer_id = ANY(CAST(:customers AS text[]))"


def check_letters(subject: Subject) -> Looking:
    """Hold each open letter against the closed list of reasons and, while Kafka has it, the record.

    Letters of another topic, or of a partition that was made again, are not compared with the log.
    """
    log = require_log(subject)
    bounds, topic_id = log.bounds(), log.topic_id()
    looked = compared = 0
    for letter, record, positions in _beside_the_log(subject, log, bounds):
        looked += 1
        where = f"{letter.customer_id or 'no customer'}, dead letter {letter.dead_letter_id}"
        if letter.reason not in list(Reason):
            yield Finding("I10", where, f"{letter.reason} is no reason for a dead letter")
        position = positions.get(letter.partition)
        if letter.topic != log.topic or (position and position.topic_id != topic_id):
            if letter.body is None and letter.reason != Reason.UNDECODABLE:
                yield Finding("I10", where, "has no bytes")
            continue
        compared += 1
        for what in _judge(letter, record, position):
            yield Finding("I10", where, what)
    return f"{count(looked, 'open dead letter')}, {compared:,} of them beside the log"


def _judge(letter: Row[Any], record: Record | None, position: Stored | None) -> Iterator[str]:
    place = f"partition {letter.partition}, offset {letter.kafka_offset}"
    if position is None or not 0 <= letter.kafka_offset < position.next_offset:
        yield f"{place} is not in the applied past of the log"
        return
    if record is not None and record.body != letter.body:
        yield f"its bytes are not those of the record at {place}"
    if record is not None and record.key != letter.key:
        yield f"its key is not that of the record at {place}"
    if record is None and letter.body is None and letter.reason != Reason.UNDECODABLE:
        yield "has no bytes, and the record is gone from Kafka"


def _beside_the_log(
    subject: Subject, log: EventLog, bounds: Mapping[int, Bounds]
) -> Iterator[tuple[Row[Any], Record | None, Mapping[int, Stored]]]:
    """Yield each open letter with the record at its place, and with positions read after it."""
    for letters in _open_letters(subject):
        positions = load_positions(subject.engine, subject.group, log.topic)
        places = [
            (letter.partition, letter.kafka_offset)
            for letter in letters
            if letter.topic == log.topic and _is_held(letter, bounds)
        ]
        records = dict(log.records_at(places))
        for letter in letters:
            yield letter, records.get((letter.partition, letter.kafka_offset)), positions


def _is_held(letter: Row[Any], bounds: Mapping[int, Bounds]) -> bool:
    low, end = bounds.get(letter.partition, (0, 0))
    return bool(low <= letter.kafka_offset < end)


def _open_letters(subject: Subject) -> Iterator[Sequence[Row[Any]]]:
    """Yield the open letters, so many at a time, the oldest first."""
    scope = _SCOPE if subject.customers is not None else ""
    asked: dict[str, object] = {"size": LETTERS_AT_ONCE}
    if subject.customers is not None:
        asked["customers"] = list(subject.customers)
    after = 0
    while True:
        with subject.engine.connect() as connection:
            rows = connection.execute(
                text(_PAGE.format(scope=scope)), asked | {"after": after}
            ).all()
        if not rows:
            return
        yield rows
        after = rows[-1].dead_letter_id
