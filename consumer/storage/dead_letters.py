"""Records set aside: with the reason, the exact bytes and where they stood in Kafka."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, text

from consumer.records import Record
from consumer.storage.rows import Rows


class Reason(StrEnum):
    """Why a record was set aside; also a label of metrics."""

    UNDECODABLE = "undecodable"
    """No event can be read from it."""
    UNSIGNED = "unsigned"
    """Its signature is missing or not ours: nobody vouches for it."""
    HANDLER = "handler"
    """Our own code raised on it."""
    DATA = "data"
    """PostgreSQL refused what it holds."""


OURS = (Reason.HANDLER, Reason.DATA)
"""What points at a fault of ours; strangers can cause the others, so those never halt us."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record with what was wrong; ids only where the signature vouches for them."""

    record: Record
    reason: Reason
    error: str
    event_id: str | None = None
    customer: str | None = None


_COLUMNS = Rows(
    event_id="text",
    customer_id="text",
    reason="text",
    error="text",
    topic="text",
    partition="int",
    kafka_offset="bigint",
    key="bytea",
    headers="jsonb",
    body="bytea",
)
_AGAIN = """
DO UPDATE SET attempts = dead_letters.attempts + 1, last_failed_at = now(),
  reason = excluded.reason, error = excluded.error
"""
_INSERT_EVENTS = _COLUMNS.insert(
    "dead_letters",
    "ORDER BY new.event_id ON CONFLICT (event_id) "
    f"WHERE event_id IS NOT NULL AND resolved_at IS NULL {_AGAIN}",
)
_INSERT_RECORDS = _COLUMNS.insert(
    "dead_letters",
    "ORDER BY new.topic, new.partition, new.kafka_offset ON CONFLICT "
    f"(topic, partition, kafka_offset) WHERE event_id IS NULL AND resolved_at IS NULL {_AGAIN}",
)
_RESOLVE = text("""
UPDATE dead_letters SET resolved_at = now()
WHERE event_id = ANY(:event_ids) AND resolved_at IS NULL
""")
_RECENT = text("""
SELECT count(*) AS letters,
  array_agg(DISTINCT customer_id) FILTER (WHERE customer_id IS NOT NULL) AS customers,
  (SELECT count(*) FROM webhook_events
   WHERE processed_at > now() - interval '5 minutes') AS events
FROM dead_letters
WHERE last_failed_at > now() - interval '5 minutes' AND reason = ANY(:ours)
""")


def write_letters(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Set records aside in the open transaction; one that is open already counts an attempt."""
    for statement, known in ((_INSERT_EVENTS, True), (_INSERT_RECORDS, False)):
        rows = {
            _identity(letter): _row(letter)
            for letter in letters
            if (letter.event_id is not None) == known
        }
        if rows:
            connection.execute(statement, _COLUMNS.bind(list(rows.values())))


def resolve_letters(connection: Connection, event_ids: Sequence[str]) -> None:
    """Close the open dead letters of events that are applied now."""
    if event_ids:
        connection.execute(_RESOLVE, {"event_ids": list(event_ids)})


_STANDING = text("""
SELECT reason, count(*) FILTER (WHERE resolved_at IS NULL) AS open,
  min(first_failed_at) FILTER (WHERE resolved_at IS NULL) AS oldest,
  max(greatest(resolved_at, replayed_at)) AS last_replay
FROM dead_letters GROUP BY reason
""")


@dataclass(frozen=True, slots=True)
class Recent:
    """Letters that point at our own fault in the last five minutes, and all events of that time."""

    letters: int
    customers: frozenset[str]
    events: int


def count_recent(connection: Connection) -> Recent:
    """Read how many dead letters point at a fault of ours; restarts do not reset it."""
    row = connection.execute(_RECENT, {"ours": list(OURS)}).one()
    return Recent(row.letters, frozenset(row.customers or ()), row.events)


@dataclass(frozen=True, slots=True)
class Standing:
    """What waits for a person, and when somebody last cared."""

    open: Mapping[str, int]
    """Open letters by reason."""
    oldest: datetime | None
    last_replay: datetime | None


def read_standing(connection: Connection) -> Standing:
    """Read how many dead letters are open, since when, and when one was last seen to."""
    rows = connection.execute(_STANDING).all()
    return Standing(
        {row.reason: row.open for row in rows},
        min((row.oldest for row in rows if row.oldest), default=None),
        max((row.last_replay for row in rows if row.last_replay), default=None),
    )


def _identity(letter: DeadLetter) -> object:
    record = letter.record
    return letter.event_id or (record.topic, record.partition, record.offset)


def _row(letter: DeadLetter) -> dict[str, object]:
    record = letter.record
    headers = [(name, base64.b64encode(value or b"").decode()) for name, value in record.headers]
    return {
        "event_id": letter.event_id,
        "customer_id": letter.customer,
        "reason": letter.reason.value,
        "error": storable(letter.error),
        "topic": record.topic,
        "partition": record.partition,
        "kafka_offset": record.offset,
        "key": record.key,
        "headers": json.dumps([(storable(name), value) for name, value in headers]),
        "body": record.body,
    }


def storable(text_: str) -> str:
    """Make any text one that PostgreSQL takes: no NUL, no lone surrogate, at most 2,000 long."""
    return text_.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:2000]
