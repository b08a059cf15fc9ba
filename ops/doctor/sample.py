"""What the newest records of the topic say: by which secret they are signed, of which mode."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from consumer.records import Record
from ops.invariants.event_log import EventLog
from ops.invariants.events import choose_ranges
from schemas.envelope import header
from schemas.signature import Verified, verify_recorded
from schemas.stripe_event import BadEvent, decode_route

RECORDS = 1_000


@dataclass(slots=True)
class Sample:
    """Counts over the newest records; `signed` by the place of the secret, from 0."""

    records: int = 0
    signed: Counter[int] = field(default_factory=Counter)
    newest: dict[int, datetime] = field(default_factory=dict)
    unsigned: list[str] = field(default_factory=list)
    """Where the records lie whose signature is of none of the secrets."""
    modes: Counter[bool] = field(default_factory=Counter)

    def add(self, record: Record, secrets: Sequence[str]) -> None:
        """Count one record; never raises."""
        self.records += 1
        signature = header(record.headers, "hookline_signature")
        body = record.body or b""
        # One at a time: Stripe signs with two while a secret is rolled.
        places = [
            place
            for place, secret in enumerate(secrets)
            if isinstance(verify_recorded(signature, body, [secret]), Verified)
        ]
        for place in places:
            self.signed[place] += 1
            known = self.newest.get(place, record.timestamp)
            self.newest[place] = max(known, record.timestamp)
        if not places:
            self.unsigned.append(f"partition {record.partition}, offset {record.offset}")
            return
        self._note_mode(body)

    def _note_mode(self, body: bytes) -> None:
        try:
            mode = decode_route(body).livemode
        except BadEvent:
            return
        if mode is not None:
            self.modes[mode] += 1


def take_sample(log: EventLog, secrets: Sequence[str], most: int = RECORDS) -> Sample:
    """Read the newest records of each partition, so many in all; blocks, raises AwayError."""
    sample = Sample()
    for record in _newest(log, most):
        sample.add(record, secrets)
    return sample


def _newest(log: EventLog, most: int) -> Iterator[Record]:
    bounds = log.bounds()
    ends = {partition: end for partition, (_, end) in bounds.items()}
    for partition, (first, end) in choose_ranges(bounds, ends, most).items():
        yield from log.read(partition, first, end)
