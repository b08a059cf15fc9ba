"""A Kafka record as plain data: what the loop hands to the batch; no I/O."""

from dataclasses import dataclass, field
from datetime import datetime

from schemas.envelope import Headers


@dataclass(frozen=True, slots=True)
class Record:
    """One record with its place; `timestamp` is the broker's, UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    body: bytes | None
    timestamp: datetime
    headers: Headers = field(default_factory=list)
