"""Kafka in memory: logs, committed offsets and one group, as a member's client shows them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.errors import Cause, Retry
from support.twins.turns import Turns

Callback = Callable[["MemoryConsumer", list[TopicPartition]], None]
OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """What consume() returns, with the methods of confluent_kafka's Message."""

    at: TopicPartition
    headers_: list[tuple[str, bytes]] = field(default_factory=list)
    key_: bytes | None = None
    value_: bytes | None = None
    error_: KafkaError | None = None
    milliseconds: int = 0

    def topic(self) -> str:
        """Return the topic."""
        return self.at.topic

    def partition(self) -> int:
        """Return the partition."""
        return self.at.partition

    def offset(self) -> int:
        """Return the offset."""
        return self.at.offset

    def error(self) -> KafkaError | None:
        """Return what this is instead of a record, if it is not one."""
        return self.error_

    def key(self) -> bytes | None:
        """Return the key."""
        return self.key_

    def value(self) -> bytes | None:
        """Return the body."""
        return self.value_

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers."""
        return self.headers_

    def timestamp(self) -> tuple[int, int]:
        """Return the broker's time in milliseconds."""
        return 1, self.milliseconds


class Broker:
    """One topic, and one group that reads it."""

    def __init__(self, turns: Turns, topic: str, partitions: int) -> None:
        self.turns = turns
        self.topic = topic
        self.topic_id = "memory"
        self.logs: list[dict[int, MemoryMessage]] = [{} for _ in range(partitions)]
        self.ends = [0] * partitions
        self.lows = [0] * partitions
        self.committed: dict[int, int] = {}
        self.members: list[MemoryConsumer] = []
        self.owners: dict[int, MemoryConsumer] = {}
        self.targets: dict[int, MemoryConsumer] = {}

    def append(
        self,
        partition: int,
        value: bytes | None,
        key: bytes | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> int:
        """Add a record and return its offset."""
        offset = self.ends[partition]
        at = TopicPartition(self.topic, partition, offset)
        milliseconds = int(self.turns.now() * 1000)
        message = MemoryMessage(at, list(headers), key, value, None, milliseconds)
        self.logs[partition][offset] = message
        self.ends[partition] += 1
        return offset

    def append_gap(self, partition: int) -> None:
        """Use an offset up without a record, as the marker of a transaction does."""
        self.ends[partition] += 1

    def truncate(self, partition: int, low: int) -> None:
        """Forget the records before an offset, as retention does."""
        self.lows[partition] = low
        self.logs[partition] = {o: m for o, m in self.logs[partition].items() if o >= low}

    # --- the group

    def join(self, member: "MemoryConsumer") -> None:
        """Take a member in; partitions are dealt out anew."""
        self.members.append(member)
        self.deal()

    def leave(self, member: "MemoryConsumer") -> None:
        """Put a member out: its partitions are free at once, it learns of that when it polls."""
        if member in self.members:
            self.members.remove(member)
        self.owners = {p: owner for p, owner in self.owners.items() if owner is not member}
        self.deal()

    def deal(self, first: int = 0) -> None:
        """Say who is to own what, one after the other beginning with some member."""
        count = len(self.members)
        self.targets = {
            p: self.members[(p + first) % count] for p in range(len(self.logs)) if count
        }


class MemoryConsumer:
    """A member's client, with those methods of confluent_kafka's Consumer that the loop calls."""

    def __init__(self, broker: Broker, on_commit: OnCommit) -> None:
        self._broker = broker
        self._on_commit = on_commit
        self._answers: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self._callbacks: dict[str, Callback] = {}
        self._paused: set[int] = set()
        self._told_end: dict[int, int] = {}
        self.offsets: dict[int, int] = {}
        """Where the client reads on, by assigned partition."""
        self.out_of_range: set[int] = set()
        """Partitions whose leader is to say so once, behind the records of the next poll."""
        self._failed: set[int] = set()
        """Partitions that cannot be moved in: after an offset out of range, until assigned anew."""
        self.leftover: list[MemoryMessage] = []
        """Fetched before and returned with the next poll."""

    def subscribe(self, _topics: list[str], **callbacks: Callback) -> None:
        """Join the group with the next poll."""
        self._callbacks = callbacks

    def consume(self, most: int, seconds: float) -> list[MemoryMessage]:
        """Return records and errors; runs the callbacks."""
        try:
            self._broker.turns.point("kafka.consume")
        except KafkaException as error:
            # Brokers that do not answer are told as a message, no sooner than the time is over.
            self._broker.turns.wait(lambda: False, seconds)
            return [MemoryMessage(TopicPartition(self._broker.topic), error_=error.args[0])]
        self._run_callbacks()
        found = self._fetch(most)
        if not found and self._broker.turns.wait(self._has_news, seconds):
            self._run_callbacks()
            found = self._fetch(most)
        return found

    def _has_news(self) -> bool:
        broker = self._broker
        return (
            bool(self._answers)
            or self not in broker.members
            or any((broker.targets.get(p) is self) != (p in self.offsets) for p in broker.targets)
            or any(self._is_behind(p) for p in self.offsets)
        )

    def _is_behind(self, partition: int) -> bool:
        end = self._broker.ends[partition]
        told = self._told_end.get(partition)
        return partition not in self._paused and (self.offsets[partition] != end or told != end)

    def _fetch(self, most: int) -> list[MemoryMessage]:
        found, self.leftover = self.leftover[:most], self.leftover[most:]
        for partition in list(self.offsets):
            if partition not in self._paused and len(found) < most:
                found += self._fetch_from(partition, most - len(found))
        return found

    def _fetch_from(self, partition: int, most: int) -> list[MemoryMessage]:
        broker, at = self._broker, self.offsets[partition]
        end = broker.ends[partition]
        if at == -2:
            at = broker.lows[partition]
        if partition in self._failed:
            return []
        if not broker.lows[partition] <= at <= end:
            self._failed.add(partition)
            return [self._event(partition, at, KafkaError._AUTO_OFFSET_RESET)]  # noqa: SLF001
        found: list[MemoryMessage] = []
        while at < end and len(found) < most:
            message = broker.logs[partition].get(at)
            at += 1
            if message is not None:
                found.append(message)
        self.offsets[partition] = at
        if partition in self.out_of_range and found:
            self.out_of_range.discard(partition)
            self._failed.add(partition)
            found.append(self._event(partition, at, KafkaError.OFFSET_OUT_OF_RANGE))
        elif at == end and len(found) < most and self._told_end.get(partition) != end:
            self._told_end[partition] = end
            found.append(self._event(partition, end, KafkaError._PARTITION_EOF))  # noqa: SLF001
        return found

    def _event(self, partition: int, offset: int, code: int) -> MemoryMessage:
        at = TopicPartition(self._broker.topic, partition, offset)
        return MemoryMessage(at, error_=KafkaError(code))

    def _run_callbacks(self) -> None:
        answers, self._answers = self._answers, []
        for error, partitions in answers:
            self._on_commit(error, partitions)
        broker = self._broker
        if self not in broker.members:
            self._release("on_lost", list(self.offsets))
            broker.join(self)
        self._release("on_revoke", [p for p in self.offsets if broker.targets.get(p) is not self])
        new = [p for p, owner in broker.targets.items() if owner is self and p not in broker.owners]
        if new:
            broker.owners |= dict.fromkeys(new, self)
            self._call("on_assign", new)

    def _release(self, callback: str, partitions: list[int]) -> None:
        if not partitions:
            return
        self._call(callback, partitions)
        for partition in partitions:
            if self._broker.owners.get(partition) is self:
                del self._broker.owners[partition]

    def _call(self, name: str, partitions: list[int]) -> None:
        entries = [TopicPartition(self._broker.topic, partition) for partition in partitions]
        self._callbacks[name](self, entries)

    # --- what the loop says of its partitions

    def incremental_assign(self, entries: list[TopicPartition]) -> None:
        """Read these too."""
        for entry in entries:
            self.offsets[entry.partition] = entry.offset
            self._told_end.pop(entry.partition, None)
            self._failed.discard(entry.partition)

    def incremental_unassign(self, entries: list[TopicPartition]) -> None:
        """Read these no more."""
        for entry in entries:
            self.offsets.pop(entry.partition, None)
            self._paused.discard(entry.partition)

    def pause(self, entries: list[TopicPartition]) -> None:
        """Return no records of these."""
        self._paused |= {entry.partition for entry in entries}

    def resume(self, entries: list[TopicPartition]) -> None:
        """Return records of these again."""
        self._paused -= {entry.partition for entry in entries}

    def seek(self, entry: TopicPartition) -> None:
        """Read on at another offset; what was fetched of the partition is forgotten."""
        if entry.partition not in self.offsets or entry.partition in self._failed:
            raise KafkaException(KafkaError(KafkaError._STATE))  # noqa: SLF001
        self.offsets[entry.partition] = entry.offset
        self._told_end.pop(entry.partition, None)
        self.leftover = [m for m in self.leftover if m.partition() != entry.partition]

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        """Store offsets for the group; an asynchronous answer comes with the next poll."""
        broker = self._broker
        try:
            if self not in broker.members:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))  # noqa: TRY301
            broker.turns.commit(
                "kafka.commit",
                lambda: broker.committed.update({e.partition: e.offset for e in offsets}),
            )
        except KafkaException as error:
            if not asynchronous:
                raise
            self._answers.append((error.args[0], offsets))
        else:
            self._answers.append((None, offsets))

    def get_watermark_offsets(self, entry: TopicPartition, **_: Any) -> tuple[int, int]:
        """Return where the log begins and ends, as the client knows it."""
        return self._broker.lows[entry.partition], self._broker.ends[entry.partition]

    def close(self) -> None:
        """Leave the group in order."""
        self._broker.turns.point("kafka.close")
        self._release("on_revoke", list(self.offsets))
        self._broker.leave(self)


class MemoryCluster:
    """Questions to the brokers beside the stream of records."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def topic_id(self) -> str:
        """Return the id of the topic."""
        self._ask("topic_id")
        return self._broker.topic_id

    def log_ranges(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Return the first offset of each log and the one after its last."""
        self._ask("log_ranges")
        return {p: (self._broker.lows[p], self._broker.ends[p]) for p in partitions}

    def log_ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offsets after the last records."""
        return {p: self._broker.ends[p] for p in partitions}

    def _ask(self, what: str) -> None:
        try:
            self._broker.turns.point(f"kafka.{what}")
        except KafkaException as error:
            raise Retry(Cause.AWAY, error.args[0].str()) from error
