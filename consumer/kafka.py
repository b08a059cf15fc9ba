"""The consumer's client: its settings by name, and what a message or error of it means to us."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from consumer.errors import Cause, Halt, Retry
from consumer.records import Record
from schemas.envelope import Headers
from schemas.settings import ConsumerSettings

log = structlog.get_logger()

REQUEST_SECONDS = 5.0
LAG_SECONDS = 1.0
PREFETCH_KIB = 32 * 1024
"""Bounds memory: records fetched ahead of the batch, over all partitions."""

MAX_POLL_INTERVAL_MS = 300_000

GAP_ERRORS = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - public constant of the client
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)
"""The records from our position on are not in the log: an operator decides, never a reset."""


def consumer_config(settings: ConsumerSettings) -> dict[str, Any]:
    """Return librdkafka's settings for a member of the group."""
    config: dict[str, Any] = settings.kafka_access() | {
        "client.id": "hookline-consumer",
        "logger": logging.getLogger("kafka"),
        "group.id": settings.kafka_group,
        "group.protocol": settings.kafka_group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
        "queued.max.messages.kbytes": PREFETCH_KIB,
        # The default of a second costs two thirds of the rate.
        "fetch.queue.backoff.ms": 10,
    }
    if settings.kafka_group_protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
    if settings.kafka_group_instance_id:
        config["group.instance.id"] = settings.kafka_group_instance_id
    return config


def to_record(message: Message) -> Record:
    """Copy a message out of the client."""
    _, milliseconds = message.timestamp()
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        _bytes(message.key()),
        _bytes(message.value()),
        datetime.fromtimestamp(max(milliseconds, 0) / 1000, UTC),
        _headers(message),
    )


def _headers(message: Message) -> Headers:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, _bytes(value) or b"") for name, value in pairs]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def poll_records(consumer: Consumer, most: int, wait: float, fill: float) -> list[Message]:
    """Wait for one message, then take what comes within `fill` seconds, `most` in all.

    Blocks for at most `wait` plus `fill` seconds; runs the rebalance callbacks.
    """
    first = consumer.consume(1, wait)
    return first + consumer.consume(most - 1, fill) if first else []


class Cluster:
    """Questions to the brokers beside the stream of records."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._admin = AdminClient(settings.kafka_access(), logger=logging.getLogger("kafka"))
        self._topic = settings.kafka_topic
        self._bootstrap = settings.kafka_bootstrap

    def topic_id(self) -> str:
        """Return the id of the topic, another one each time it is made; raises Retry."""
        try:
            futures = self._admin.describe_topics(
                TopicCollection([self._topic]), request_timeout=REQUEST_SECONDS
            )
            return str(futures[self._topic].result().topic_id)
        except KafkaException as error:
            raise Retry(Cause.AWAY, f"Kafka at {self._bootstrap}: {error.args[0].str()}") from error

    def log_ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offsets after the last records, as far as the brokers answer in a second."""
        asked = {TopicPartition(self._topic, p): OffsetSpec.latest() for p in partitions}  # type: ignore[no-untyped-call]
        futures = self._admin.list_offsets(asked, request_timeout=LAG_SECONDS)
        ends: dict[int, int] = {}
        for entry, future in futures.items():
            try:
                ends[entry.partition] = future.result().offset
            except KafkaException:
                log.debug("log_end_unknown", partition=entry.partition)
        return ends


def judge_client_error(error: KafkaError) -> None:
    """Raise Halt for an error that the client will not recover from; the others pass by."""
    if error.fatal():
        raise Halt(f"Kafka's client gave up: {error.str()}; the process must be started again")
