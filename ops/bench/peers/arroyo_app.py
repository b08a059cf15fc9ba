"""arroyo with the one-event handler, and with its batching step: `arroyo_app [batch]`."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from arroyo import Topic
from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import IMMEDIATE
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import (
    BatchStep,
    CommitOffsets,
    ProcessingStrategyFactory,
    RunTask,
)
from arroyo.types import Message

from consumer.records import Record
from ops.bench.peers.handler import Handler

BATCH = 500
BATCH_SECONDS = 0.05


def record_of(value: Any) -> Record:
    """Copy a value out of arroyo's message."""
    payload: KafkaPayload = value.payload
    return Record(
        value.partition.topic.name,
        value.partition.index,
        value.offset,
        payload.key,
        payload.value,
        value.timestamp,
        list(payload.headers),
    )


class Factory(ProcessingStrategyFactory[KafkaPayload]):  # type: ignore[misc]
    """Builds: handle one, or gather and handle; then commit."""

    def __init__(self, handler: Handler, *, in_batches: bool) -> None:
        self._handler = handler
        self._in_batches = in_batches

    def create_with_partitions(self, commit: Any, _partitions: Mapping[Any, int]) -> Any:
        """Return the steps."""
        if self._in_batches:
            handle: Any = RunTask(self._handle_batch, CommitOffsets(commit))
            return BatchStep(BATCH, BATCH_SECONDS, handle)
        return RunTask(self._handle_one, CommitOffsets(commit))

    def _handle_one(self, message: Message[KafkaPayload]) -> None:
        self._handler.handle(record_of(message.value))

    def _handle_batch(self, message: Message[Any]) -> None:
        self._handler.handle_all([record_of(value) for value in message.payload])


def main(*, in_batches: bool) -> None:
    """Consume until the process is ended."""
    configuration = build_kafka_consumer_configuration(
        {"fetch.queue.backoff.ms": 10},
        bootstrap_servers=[os.environ["HOOKLINE_KAFKA_BOOTSTRAP"]],
        group_id=os.environ["HOOKLINE_KAFKA_GROUP"],
        auto_offset_reset="earliest",
    )
    run: Callable[[], None] = StreamProcessor(
        consumer=KafkaConsumer(configuration),
        topic=Topic(os.environ["HOOKLINE_KAFKA_TOPIC"]),
        processor_factory=Factory(Handler(), in_batches=in_batches),
        commit_policy=IMMEDIATE,
    ).run
    run()


if __name__ == "__main__":
    main(in_batches=sys.argv[1:] == ["batch"])
