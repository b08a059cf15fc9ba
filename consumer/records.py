"""A Kafka record as plain data: what the loop hands to the batch; no I/O."""

from datetime import datetime

import msgspec

from schemas.envelope import Headers


class Record(msgspec.Struct, frozen=True):
    """One record with its place; `timestamp` is the broker's, UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    body: bytes | None
    timestamp: datetime
    headers: Headers = []
