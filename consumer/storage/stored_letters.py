"""Dead letters read back for a person or a replay; locks nothing, writes only what a replay did.

A letter keeps the identity it was set aside with: what a replay newly reads from it stands in
webhook_events, and an event id is taken from nobody but the consumer that verified it.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from consumer.records import Record
from consumer.storage.dead_letters import Reason, storable
from schemas.envelope import Headers


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """A dead letter without its bytes; `type` is what its headers say, cut."""

    dead_letter_id: int
    reason: str
    error: str
    attempts: int
    event_id: str | None
    customer_id: str | None
    type: str | None
    topic: str
    partition: int
    kafka_offset: int
    first_failed_at: datetime
    last_failed_at: datetime
    replayed_at: datetime | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A whole row of dead_letters; `headers` are pairs of a name and its value in base64."""

    dead_letter_id: int
    event_id: str | None
    customer_id: str | None
    reason: str
    error: str
    attempts: int
    topic: str
    partition: int
    kafka_offset: int
    key: bytes | None
    headers: Sequence[Sequence[str]]
    body: bytes | None
    first_failed_at: datetime
    last_failed_at: datetime
    replayed_at: datetime | None
    resolved_at: datetime | None

    def to_record(self) -> Record:
        """Return the record as it was polled; the broker's time is not kept, the failure's is."""
        return Record(
            self.topic,
            self.partition,
            self.kafka_offset,
            self.key,
            self.body,
            self.first_failed_at,
            self.read_headers(),
        )

    def read_headers(self) -> Headers:
        """Return the headers as they were; a value that somebody edited into nonsense is empty."""
        return [(str(name), _decode(value)) for name, value in self.headers]


@dataclass(frozen=True, slots=True)
class Failure:
    """A dead letter on which a replay failed, and why."""

    dead_letter_id: int
    reason: Reason
    error: str


_CHOICE = """
(CAST(:reason AS text) IS NULL OR reason = :reason) AND (:resolved OR resolved_at IS NULL)
"""
# 344 characters of base64 are 256 bytes, which is what ingest cuts a header to.
_LIST = text(f"""
SELECT dead_letter_id, reason, error, attempts, event_id, customer_id,
  (SELECT left(pair->>1, 344) FROM jsonb_array_elements(headers) AS pair
   WHERE pair->>0 = 'ce_type' LIMIT 1) AS type,
  topic, partition, kafka_offset, first_failed_at, last_failed_at, replayed_at, resolved_at
FROM dead_letters WHERE {_CHOICE} ORDER BY dead_letter_id LIMIT :rows
""")  # noqa: S608 - text of this file only
_TOTALS = text(f"""
SELECT reason, count(*) AS letters FROM dead_letters WHERE {_CHOICE} GROUP BY reason ORDER BY reason
""")  # noqa: S608 - same
_OPEN = text("""
SELECT dead_letter_id, reason, customer_id FROM dead_letters
WHERE resolved_at IS NULL AND (CAST(:reason AS text) IS NULL OR reason = :reason)
  AND (CAST(:ids AS bigint[]) IS NULL OR dead_letter_id = ANY(:ids))
ORDER BY dead_letter_id
""")
_KNOWN = text("SELECT dead_letter_id FROM dead_letters WHERE dead_letter_id = ANY(:ids)")
_LOAD = text("""
SELECT dead_letter_id, event_id, customer_id, reason, error, attempts, topic, partition,
  kafka_offset, key, headers, body, first_failed_at, last_failed_at, replayed_at, resolved_at
FROM dead_letters WHERE dead_letter_id = ANY(:ids) ORDER BY dead_letter_id
""")
_CLOSE = text("""
UPDATE dead_letters SET resolved_at = now()
WHERE dead_letter_id = ANY(:ids) AND resolved_at IS NULL
""")
_FAIL = text("""
UPDATE dead_letters AS stored SET attempts = attempts + 1, replayed_at = now(),
  reason = new.reason, error = new.error
FROM unnest(CAST(:ids AS bigint[]), CAST(:reasons AS text[]), CAST(:errors AS text[]))
  AS new (dead_letter_id, reason, error)
WHERE stored.dead_letter_id = new.dead_letter_id AND stored.resolved_at IS NULL
RETURNING stored.dead_letter_id
""")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant: of one reason or all, open ones or all."""

    reason: Reason | None = None
    resolved: bool = False

    def bind(self) -> dict[str, Any]:
        """Return the parameters of a statement."""
        return {"reason": self.reason and self.reason.value, "resolved": self.resolved}


@dataclass(frozen=True, slots=True)
class OpenLetter:
    """What a replay must know of an open dead letter before it begins."""

    dead_letter_id: int
    reason: str
    customer_id: str | None


def list_letters(connection: Connection, choice: Choice, rows: int) -> list[LetterSummary]:
    """Return so many dead letters, oldest first."""
    found = connection.execute(_LIST, choice.bind() | {"rows": rows}).mappings()
    return [LetterSummary(**{**row, "type": _text(row["type"])}) for row in found]


def count_letters(connection: Connection, choice: Choice) -> Counter[str]:
    """Return how many there are, by reason."""
    return Counter({row.reason: row.letters for row in connection.execute(_TOTALS, choice.bind())})


def find_open(
    connection: Connection, reason: Reason | None = None, ids: Sequence[int] | None = None
) -> list[OpenLetter]:
    """Return the open dead letters of a reason, or of these ids, or all; oldest first."""
    asked = {"reason": reason and reason.value, "ids": ids}
    return [OpenLetter(*row) for row in connection.execute(_OPEN, asked)]


def find_known(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Return which of these ids are dead letters, open or not."""
    return set(connection.scalars(_KNOWN, {"ids": list(ids)}))


def load_letters(connection: Connection, ids: Sequence[int]) -> list[StoredLetter]:
    """Return these dead letters with their bytes, half a megabyte each at most; oldest first."""
    rows = connection.execute(_LOAD, {"ids": list(ids)}).mappings()
    return [StoredLetter(**row) for row in rows]


def close_letters(connection: Connection, ids: Sequence[int]) -> None:
    """Close these dead letters; one that is closed stays as it is."""
    if ids:
        connection.execute(_CLOSE, {"ids": list(ids)})


def note_failures(connection: Connection, failures: Sequence[Failure]) -> set[int]:
    """Count a failed replay of these open dead letters; return the ids that were open."""
    if not failures:
        return set()
    bound: Mapping[str, list[Any]] = {
        "ids": [one.dead_letter_id for one in failures],
        "reasons": [one.reason.value for one in failures],
        "errors": [storable(one.error) for one in failures],
    }
    return set(connection.scalars(_FAIL, bound))


def _text(value: str | None) -> str | None:
    return None if value is None else _decode(value).decode("utf-8", "replace")


def _decode(value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        return b""
