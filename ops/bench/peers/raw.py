"""A message of confluent-kafka as a record, whatever version of the library a peer is pinned to."""

from datetime import UTC, datetime
from typing import Any

from consumer.records import Record


def record_of(message: Any) -> Record:
    """Copy a message out of the client."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
        list(message.headers() or []),
    )
