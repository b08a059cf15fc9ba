"""I10: an open dead letter has a reason, the exact bytes, and a place in the log's past."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row, text

from consumer.storage.dead_letters import Reason
from ops.counting import count
from ops.invariants.event_log import Bounds, EventLog
from ops.invariants.positions import Stored, load_positions, require_log
from ops.invariants.subject import Finding, Looking, Subject

LETTERS_AT_ONCE = 200
"""Bodies in memory at a time; at most half a megabyte each."""

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
    for letter, positions in _open_letters(subject, log.topic):
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
        for what in _judge(letter, log, bounds, position):
            yield Finding("I10", where, what)
    return f"{count(looked, 'open dead letter')}, {compared:,} of them beside the log"


def _judge(
    letter: Row[Any], log: EventLog, bounds: Mapping[int, Bounds], position: Stored | None
) -> Iterator[str]:
    place = f"partition {letter.partition}, offset {letter.kafka_offset}"
    if position is None or not 0 <= letter.kafka_offset < position.next_offset:
        yield f"{place} is not in the applied past of the log"
        return
    low, end = bounds.get(letter.partition, (0, 0))
    record = None
    if low <= letter.kafka_offset < end:
        record = log.record_at(letter.partition, letter.kafka_offset)
    if record is not None and record.body != letter.body:
        yield f"its bytes are not those of the record at {place}"
    if record is not None and record.key != letter.key:
        yield f"its key is not that of the record at {place}"
    if record is None and letter.body is None and letter.reason != Reason.UNDECODABLE:
        yield "has no bytes, and the record is gone from Kafka"


def _open_letters(subject: Subject, topic: str) -> Iterator[tuple[Row[Any], Mapping[int, Stored]]]:
    """Yield the open letters, each with positions that are read after it."""
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
        positions = load_positions(subject.engine, subject.group, topic)
        yield from ((row, positions) for row in rows)
        after = rows[-1].dead_letter_id
