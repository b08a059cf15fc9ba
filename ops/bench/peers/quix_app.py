"""Quix Streams with the one-event handler; its sink takes batches: `quix_app [batch]`."""

import os
import sys
from datetime import UTC, datetime
from typing import Any

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from consumer.records import Record
from ops.bench.peers.handler import Handler

BATCH = 500
COMMIT_SECONDS = 0.05


class HandlerSink(BatchingSink):  # type: ignore[misc]
    """Hands a partition's batch to the handler, one transaction for all of it."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def write(self, batch: SinkBatch) -> None:
        """Handle what was gathered since the last commit."""
        self._handler.handle_all(
            [
                record_of(batch.topic, batch.partition, item.offset, item.timestamp, item)
                for item in batch
            ]
        )


def record_of(topic: str, partition: int, offset: int, timestamp: int, item: Any) -> Record:
    """Copy an item out of the sink."""
    moment = datetime.fromtimestamp(timestamp / 1000, UTC)
    headers = list(item.headers or [])
    return Record(topic, partition, offset, item.key, item.value, moment, headers)


def main(*, in_batches: bool) -> None:
    """Consume until the process is ended."""
    handler = Handler()
    app = Application(
        broker_address=os.environ["HOOKLINE_KAFKA_BOOTSTRAP"],
        consumer_group=os.environ["HOOKLINE_KAFKA_GROUP"],
        auto_offset_reset="earliest",
        commit_every=BATCH if in_batches else 1,
        commit_interval=COMMIT_SECONDS,
        auto_create_topics=False,
        consumer_extra_config={"fetch.queue.backoff.ms": 10},
    )
    topic = app.topic(
        os.environ["HOOKLINE_KAFKA_TOPIC"], value_deserializer="bytes", key_deserializer="bytes"
    )
    frames = app.dataframe(topic)
    if in_batches:
        frames.sink(HandlerSink(handler))
    else:
        from quixstreams import message_context  # noqa: PLC0415 - set while a message is handled

        def handle(value: bytes, key: Any, timestamp: int, headers: Any) -> None:
            at = message_context()
            moment = datetime.fromtimestamp(timestamp / 1000, UTC)
            record = Record(
                at.topic, at.partition, at.offset, key, value, moment, list(headers or [])
            )
            handler.handle(record)

        frames.update(handle, metadata=True)
    app.run()


if __name__ == "__main__":
    main(in_batches=sys.argv[1:] == ["batch"])
