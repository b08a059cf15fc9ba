"""The consumer's client: its settings by name, and what a message or error of it means to us."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
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

from consumer.errors import NOT_REACHABLE, Cause, Halt, Retry, verdict_of_kafka
from consumer.records import Record
from schemas.access import Refusals
from schemas.envelope import Headers
from schemas.settings import ConsumerSettings, GroupSettings

log = structlog.get_logger()
_KAFKA_LOG = logging.getLogger("kafka")

REQUEST_SECONDS = 5.0
LAG_SECONDS = 1.0
LEAVE_SECONDS = 5.0
PREFETCH_KIB = 8 * 1024
"""Bounds memory: records fetched ahead of the batch, over all partitions; some four batches."""

FETCH_BYTES = 128 * 1024
"""Asked of a partition at once, compressed: unpacked, a batch is some 20 times as large."""

MAX_POLL_INTERVAL_MS = 300_000

OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]
OnError = Callable[[KafkaError], None]


def consumer_config(settings: ConsumerSettings) -> dict[str, Any]:
    """Return librdkafka's settings for a member of the group."""
    config: dict[str, Any] = settings.kafka_access() | {
        "client.id": "hookline-consumer",
        "logger": _KAFKA_LOG,
        "group.id": settings.kafka_group,
        "group.protocol": settings.kafka_group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        # The end of a log is told as an event: without it, markers behind the last record of a
        # transaction would count as lag for ever.
        "enable.partition.eof": True,
        "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
        "queued.max.messages.kbytes": PREFETCH_KIB,
        "fetch.message.max.bytes": FETCH_BYTES,
        # The default of a second costs two thirds of the rate.
        "fetch.queue.backoff.ms": 10,
    }
    if settings.kafka_group_protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
    if settings.kafka_group_instance_id:
        config["group.instance.id"] = settings.kafka_group_instance_id
    return config


def connect(settings: ConsumerSettings, on_commit: OnCommit, on_error: OnError) -> Consumer:
    """Make a member of the group; it is one only once it subscribes. Callbacks run in consume()."""
    callbacks = {"on_commit": on_commit, "error_cb": on_error}
    return Member(consumer_config(settings) | callbacks)


class Member(Consumer):
    """A member that does not wait for ever for its leave.

    A client that the brokers put out of the group while it leaves may never return from
    `close`. All that matters is committed by then, so the process ends instead.
    """

    def close(self) -> None:
        """Leave the group; blocks for at most five seconds. The callbacks run meanwhile."""
        leaving = threading.Thread(target=super().close, name="leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        if leaving.is_alive():
            log.warning("group_not_left", seconds=LEAVE_SECONDS)


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


class ClientErrors:
    """What the client said went wrong; noted in its callbacks, dealt with by the loop."""

    def __init__(self) -> None:
        self._halt: Halt | None = None
        self._refusals = Refusals()
        self.problem: str | None = None
        """Why no broker lets us in, as long as that is so."""

    def note(self, error: KafkaError) -> None:
        """Note one error; never raises, as the client would swallow it."""
        log.warning("kafka_error", error=error.str())
        verdict = verdict_of_kafka(error)
        if isinstance(verdict, Halt):
            self._halt = verdict
        elif error.code() in NOT_REACHABLE:
            # "All brokers are down" follows each refusal, and says less.
            if self.problem is None:
                self._refusals = Refusals()
            self._refusals.note(error)
            self.problem = self._refusals.why or str(verdict)

    def check(self) -> None:
        """Raise Halt if going on makes no sense."""
        if self._halt:
            raise self._halt


class Cluster:
    """Questions to the brokers beside the stream of records; each blocks for at most 5 seconds."""

    def __init__(self, settings: GroupSettings) -> None:
        self._access = settings.kafka_access()
        self._refusals = Refusals()
        self._admin = self._connect()
        self._topic = settings.kafka_topic
        self._group = settings.kafka_group
        self._brokers = f"Kafka at {settings.kafka_bootstrap}"

    def topic_id(self) -> str:
        """Return the id of the topic, another one each time it is made; raises Retry or Halt."""
        return str(self._describe().topic_id)

    def partitions(self) -> list[int]:
        """Return the numbers of the topic's partitions; raises Retry or Halt."""
        return sorted(partition.id for partition in self._describe().partitions)

    def log_ranges(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return the first offset of each log and the one after its last; raises Retry or Halt."""
        asked = list(partitions)
        lows = self._ask_offsets(asked, OffsetSpec.earliest(), REQUEST_SECONDS)  # type: ignore[no-untyped-call]
        highs = self._ask_offsets(asked, OffsetSpec.latest(), REQUEST_SECONDS)  # type: ignore[no-untyped-call]
        return {p: (self._answer(lows[p]).offset, self._answer(highs[p]).offset) for p in asked}

    def log_ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offsets after the last records, as far as the brokers answer in a second."""
        ends: dict[int, int] = {}
        for partition, future in self._ask_offsets(
            partitions,
            OffsetSpec.latest(),  # type: ignore[no-untyped-call]
            LAG_SECONDS,
        ).items():
            try:
                ends[partition] = future.result().offset
            except KafkaException:
                log.debug("log_end_unknown", partition=partition)
        return ends

    def committed(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the group's committed offsets, where there are any; raises Retry or Halt."""
        try:
            return committed_offsets(self._access, self._group, self._topic, partitions)
        except KafkaException as error:
            raise verdict_of_kafka(error.args[0], self._brokers) from error

    def _connect(self) -> AdminClient:
        config: dict[str, Any] = {**self._access, "error_cb": self._refusals.note}
        return AdminClient(config, logger=_KAFKA_LOG)

    def _describe(self) -> Any:
        futures = self._admin.describe_topics(
            TopicCollection([self._topic]), request_timeout=REQUEST_SECONDS
        )
        return self._answer(futures[self._topic])

    def _ask_offsets(
        self, partitions: Iterable[int], spec: OffsetSpec, seconds: float
    ) -> dict[int, Future[Any]]:
        asked = {TopicPartition(self._topic, partition): spec for partition in partitions}
        futures = self._admin.list_offsets(asked, request_timeout=seconds) if asked else {}
        return {entry.partition: future for entry, future in futures.items()}

    def _answer(self, future: Future[Any]) -> Any:
        try:
            answer = future.result()
        except KafkaException as error:
            self._admin.poll(0)
            # A client keeps to the broker it took for the controller: where that one is dead, it
            # tries ten thousand times a second for minutes, and asks no other.
            self._admin = self._connect()
            verdict = verdict_of_kafka(error.args[0], self._brokers)
            if isinstance(verdict, Retry) and self._refusals.why:
                verdict = Retry(Cause.KAFKA, self._refusals.why)
            raise verdict from error
        self._refusals.why = None
        return answer


def committed_offsets(
    access: Mapping[str, Any], group: str, topic: str, partitions: Iterable[int]
) -> dict[int, int]:
    """Return a group's committed offsets, where there are any; blocks, raises KafkaException.

    Asked by a consumer that never subscribes, so it joins no group: the admin client's own call
    ends the process by SIGSEGV where the coordinator is moving (librdkafka #5040).
    """
    client = Consumer({**access, "group.id": group}, logger=_KAFKA_LOG)
    try:
        asked = [TopicPartition(topic, partition) for partition in partitions]
        found = client.committed(asked, timeout=REQUEST_SECONDS)
    finally:
        client.close()
    return {entry.partition: entry.offset for entry in found if entry.offset >= 0}
