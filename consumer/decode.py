"""From records to events: steps 2 and 3 of a batch; pure but for compressing.

What cannot be an event, or is not signed by Stripe, becomes a dead letter here; the rest goes on.
"""

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from consumer.billing.facts import has_plain_texts, texts_of
from consumer.billing.handlers import Reading, read_event
from consumer.records import Record
from consumer.storage.dead_letters import DeadLetter, Reason
from schemas.envelope import header, received_at
from schemas.payload import make_pack
from schemas.signature import Refused, verify_recorded
from schemas.stripe_event import (
    MAX_TEXT,
    BadEvent,
    StripeEvent,
    check_storable,
    customer_of,
    decode_event,
)


class Incoming(msgspec.Struct, frozen=True):
    """A signed event as it came, with what its row needs."""

    record: Record
    event: StripeEvent
    """Without its object, which `reading` tells of: those of a whole batch are slow to hold."""
    customer: str | None
    created_at: datetime
    received_at: datetime
    reading: Reading
    error: str | None
    """What our own code raised on it, if it did."""
    payload: bytes = b""
    """The body, compressed."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch after step 3: one entry an event id, and what was set aside."""

    events: list[Incoming]
    letters: list[DeadLetter]
    repeats: int
    second_renderings: list[str]


class Decoder:
    """Reads records; `secrets` None means that signatures are not checked."""

    def __init__(self, secrets: Sequence[str] | None) -> None:
        self._secrets = secrets
        self._pack = make_pack()

    def decode(self, records: Iterable[Record]) -> Decoded:
        """Read each record, and keep the first of those with the same event id; never raises."""
        kept: dict[str, Incoming] = {}
        letters: list[DeadLetter] = []
        second: list[str] = []
        repeats = 0
        for record in records:
            result = self._read(record)
            if isinstance(result, DeadLetter):
                letters.append(result)
            elif (first := kept.setdefault(result.event.id, result)) is not result:
                repeats += 1
                if first.event.api_version != result.event.api_version:
                    second.append(result.event.id)
        return Decoded(self._packed(kept.values()), letters, repeats, second)

    def _packed(self, events: Iterable[Incoming]) -> list[Incoming]:
        payloads = self._pack([event.record.body for event in events if event.record.body])
        return [replace(e, payload=p) for e, p in zip(events, payloads, strict=True)]

    def _read(self, record: Record) -> Incoming | DeadLetter:
        if record.body is None:
            return DeadLetter(record, Reason.UNDECODABLE, "the record has no value")
        if self._secrets is not None:
            signature = header(record.headers, "hookline_signature")
            verdict = verify_recorded(signature, record.body, self._secrets)
            if isinstance(verdict, Refused):
                return DeadLetter(record, Reason.UNSIGNED, str(verdict.reason))
        try:
            event = decode_event(record.body)
            reading, failure = _read(event)
            _check_texts(reading)
        except BadEvent as error:
            return DeadLetter(record, Reason.UNDECODABLE, str(error))
        return Incoming(
            record,
            replace(event, object={}, previous_attributes=None),
            customer_of(event),
            datetime.fromtimestamp(event.created, UTC),
            received_at(record.headers) or record.timestamp,
            reading,
            failure,
        )


def _read(event: StripeEvent) -> tuple[Reading, str | None]:
    try:
        return read_event(event), None
    except Exception as error:  # noqa: BLE001 - one event must not stop the others
        return Reading(), describe(error)


def _check_texts(reading: Reading) -> None:
    """Raise BadEvent for a text that PostgreSQL could not store."""
    check_storable(reading.subscription, reading.reference)
    if reading.fact is not None and not has_plain_texts(reading.fact, MAX_TEXT):
        check_storable(*texts_of(reading.fact))


def describe(error: Exception) -> str:
    """Name an error and where it was raised; its text may hold data of the event."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {frame.name}, line {frame.lineno})"
