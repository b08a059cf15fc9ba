"""Kafka as the checks need it: bounds, commits and single records of a topic, read only."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from consumer.kafka import committed_offsets, to_record
from consumer.records import Record
from schemas.access import Refusals

T = TypeVar("T")

REQUEST_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""Without a record for so long, where records must be, the brokers are away."""

FETCHED_AT_ONCE = 200
PREFETCH_KIB = 8 * 1024

NEAR = 100
"""So few records between two that are asked for are read too: seeking takes longer."""

Place = tuple[int, int]
"""A partition and an offset in it."""


class AwayError(Exception):
    """A server does not answer; one sentence."""


class Bounds(NamedTuple):
    """The offsets that one partition holds: from `low` to before `end`."""

    low: int
    end: int


class EventLog:
    """One topic; joins no group and commits nothing. Every method blocks, and raises AwayError."""

    def __init__(self, access: Mapping[str, Any], topic: str) -> None:
        self._access = access
        self._bootstrap = access["bootstrap.servers"]
        self._refusals = Refusals()
        # What the client would log, hundreds of lines where no broker answers, is one AwayError.
        quiet = {"error_cb": self._refusals.note, "log_level": 0}
        self._admin = AdminClient(dict(access) | quiet, logger=logging.getLogger("kafka"))
        self._reader: Consumer | None = None
        self.topic = topic

    def topic_id(self) -> str:
        """Return the topic's id, another one each time it is made."""
        return str(self._describe().topic_id)

    def bounds(self) -> dict[int, Bounds]:
        """Return what each partition holds: the ends are at least as new as the call."""
        asked = [entry.id for entry in self._describe().partitions]
        low = self._offsets(asked, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._offsets(asked, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {partition: Bounds(low[partition], end[partition]) for partition in asked}

    def committed(self, group: str) -> dict[int, int]:
        """Return a group's committed offsets; a partition without one is absent."""
        partitions = [entry.id for entry in self._describe().partitions]
        try:
            return committed_offsets(self._access, group, self.topic, partitions)
        except KafkaException as error:
            raise self._away(error) from error

    def read(self, partition: int, first: int, end: int) -> Iterator[Record]:
        """Yield the records from one offset to before another, as far as the log holds them."""
        if first >= end:
            return
        reader = self._open()
        reader.assign([TopicPartition(self.topic, partition, first)])
        deadline, at = time.monotonic() + SILENCE_SECONDS, first
        while time.monotonic() < deadline:
            # No more than there are, or the client would wait for those that never come.
            for message in reader.consume(min(end - at, FETCHED_AT_ONCE), 0.5):
                error, offset = message.error(), message.offset() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - public constant of the client
                    raise AwayError(f"Kafka at {self._bootstrap}: {error.str()}")
                if offset >= end:
                    return
                if error is not None:
                    return
                yield to_record(message)
                deadline, at = time.monotonic() + SILENCE_SECONDS, offset + 1
                if at >= end:
                    return
        raise AwayError(f"Kafka at {self._bootstrap} does not send partition {partition}")

    def record_at(self, partition: int, offset: int) -> Record | None:
        """Return one record, None where the log does not hold it any more."""
        return next(self.read(partition, offset, offset + 1), None)

    def records_at(self, places: Iterable[Place]) -> Iterator[tuple[Place, Record]]:
        """Yield the records of some places in order; what the log holds no more is left out."""
        asked = set(places)
        for partition, first, end in stretches(sorted(asked)):
            for record in self.read(partition, first, end):
                place = partition, record.offset
                if place in asked:
                    yield place, record

    def close(self) -> None:
        """Close the connections; safe to repeat."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _open(self) -> Consumer:
        if self._reader is None:
            self._reader = Consumer(
                dict(self._access)
                | {
                    "group.id": "hookline-doctor",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                    "queued.max.messages.kbytes": PREFETCH_KIB,
                    # A request that waits at one partition's end holds up the next partition.
                    "fetch.wait.max.ms": 10,
                },
                logger=logging.getLogger("kafka"),
            )
        return self._reader

    def _describe(self) -> Any:
        futures = self._ask(
            lambda: self._admin.describe_topics(
                TopicCollection([self.topic]), request_timeout=REQUEST_SECONDS
            )
        )
        return self._ask(futures[self.topic].result)

    def _offsets(self, partitions: list[int], spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(self.topic, partition): spec for partition in partitions}
        futures = self._ask(
            lambda: self._admin.list_offsets(asked, request_timeout=REQUEST_SECONDS)
        )
        return {
            entry.partition: self._ask(future.result).offset for entry, future in futures.items()
        }

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except KafkaException as error:
            raise self._away(error) from error

    def _away(self, error: KafkaException) -> AwayError:
        self._admin.poll(0)
        return AwayError(self._refusals.why or f"Kafka at {self._bootstrap}: {error.args[0].str()}")


def stretches(places: Iterable[Place]) -> Iterator[tuple[int, int, int]]:
    """Yield partition, first offset and end of what can be read in one piece; of sorted places."""
    stretch: tuple[int, int, int] | None = None
    for partition, offset in places:
        if stretch is not None and partition == stretch[0] and offset - stretch[2] <= NEAR:
            stretch = (partition, stretch[1], offset + 1)
            continue
        if stretch is not None:
            yield stretch
        stretch = (partition, offset, offset + 1)
    if stretch is not None:
        yield stretch
