"""A member of the group: its twin in memory and Kafka's client keep the same promises."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Producer, TopicPartition

from consumer.errors import is_gap
from consumer.kafka import FETCH_BYTES, Cluster, connect
from schemas.settings import ConsumerSettings, load
from support.polling import eventually
from support.twins.broker import Broker, MemoryCluster, MemoryConsumer
from support.twins.turns import RealTurns

PARTITION = 3
LARGE = 7 * FETCH_BYTES


class Member:
    """A member that keeps what it is told, and assigns what it is given, paused."""

    def __init__(self, connect: Callable[..., Any], topic: str) -> None:
        self.topic = topic
        self.committed: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self.told: list[tuple[str, set[int]]] = []
        self.owned: set[int] = set()
        self.client = connect(lambda *answer: self.committed.append(answer), lambda _: None)
        self.client.subscribe(
            [topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke
        )

    def poll(self) -> list[Any]:
        """Return what one poll gives."""
        return list(self.client.consume(100, 0.1))

    def at(self, offset: int = -1) -> list[TopicPartition]:
        """Name the partition that is looked at."""
        return [TopicPartition(self.topic, PARTITION, offset)]

    def go_to(self, offset: int) -> None:
        """Read on from there."""
        self.client.seek(*self.at(offset))
        self.client.resume(self.at())

    def read(self, wanted: int) -> list[tuple[int, bytes]]:
        """Poll until so many records have come, and return their offsets and bodies."""
        found: list[tuple[int, bytes]] = []

        def is_enough() -> bool:
            messages = [message for message in self.poll() if message.error() is None]
            found.extend((message.offset(), message.value()) for message in messages)
            return len(found) >= wanted

        eventually(is_enough, what=f"{wanted} records")
        return found

    def error(self) -> KafkaError:
        """Poll until something other than a record comes, and return it."""
        errors: list[KafkaError] = []

        def is_told() -> bool:
            errors.extend(message.error() for message in self.poll() if message.error())
            return bool(errors)

        eventually(is_told, what="an error")
        return errors[0]

    def _assign(self, client: Any, entries: list[TopicPartition]) -> None:
        numbers = {entry.partition for entry in entries}
        self.told.append(("assign", numbers))
        self.owned |= numbers
        client.incremental_assign(
            [TopicPartition(self.topic, number, OFFSET_BEGINNING) for number in numbers]
        )
        client.pause(entries)

    def _revoke(self, client: Any, entries: list[TopicPartition]) -> None:
        numbers = {entry.partition for entry in entries}
        self.told.append(("revoke", numbers))
        self.owned -= numbers
        client.incremental_unassign(entries)


class Kafka:
    """One topic with what a test does beside its members."""

    def __init__(
        self,
        topic: str,
        connect: Callable[..., Any],
        cluster: Any,
        write: Callable[[bytes], Any],
        committed: Callable[[], int],
    ) -> None:
        self.topic = topic
        self.cluster = cluster
        self.write = write
        self.committed = committed
        self._connect = connect
        self._members: list[Member] = []

    def join(self) -> Member:
        """Let another member in."""
        self._members.append(Member(self._connect, self.topic))
        return self._members[-1]

    def close(self) -> None:
        """Let all leave."""
        for member in self._members:
            member.client.close()


@pytest.fixture(params=["memory", "kafka"])
def kafka(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kafka]:
    """Provide a topic of twelve partitions, in memory or real."""
    found = _memory() if request.param == "memory" else _real(request, tmp_path)
    yield found
    found.close()


def _memory() -> Kafka:
    broker = Broker(RealTurns(), "topic", 12)
    return Kafka(
        "topic",
        lambda on_commit, _on_error: MemoryConsumer(broker, on_commit),
        MemoryCluster(broker),
        lambda body: broker.append(PARTITION, body),
        lambda: broker.committed.get(PARTITION, -1),
    )


def _real(request: pytest.FixtureRequest, folder: Path) -> Kafka:
    bootstrap, topic = (request.getfixturevalue(name) for name in ("kafka_bootstrap", "topic"))
    settings = load(
        ConsumerSettings,
        kafka_bootstrap=bootstrap,
        kafka_topic=topic,
        kafka_group=topic,
        database_url="postgresql://nowhere/",
        redis_url="redis://nowhere/",
        webhook_secrets=("whsec_1",),
        plans_file=folder,
    )
    producer = Producer({"bootstrap.servers": bootstrap})

    def write(body: bytes) -> None:
        producer.produce(topic, body, partition=PARTITION)
        producer.flush(30)

    def committed() -> int:
        asked = [TopicPartition(topic, PARTITION)]
        client = connect(settings, lambda *_: None, lambda _: None)
        try:
            return int(client.committed(asked, timeout=30)[0].offset)
        finally:
            client.close()

    return Kafka(topic, lambda *hear: connect(settings, *hear), Cluster(settings), write, committed)


def is_owner(member: Member) -> Callable[[], bool]:
    """Return whether a poll leaves a member with the partition that is looked at."""
    return lambda: member.poll() is not None and PARTITION in member.owned


def test_records_come_in_order_from_where_one_goes(kafka: Kafka) -> None:
    """Paused gives nothing; after seek and resume records come in order, the end is told."""
    for number in range(5):
        kafka.write(b"%d" % number)
    member = kafka.join()
    eventually(is_owner(member))
    assert [message for message in member.poll() if message.error() is None] == []
    member.go_to(2)
    assert member.read(3) == [(2, b"2"), (3, b"3"), (4, b"4")]
    member.client.pause(member.at())
    member.go_to(1)
    assert member.read(4)[0] == (1, b"1")
    member.go_to(5)
    assert member.error().code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - public constant
    kafka.write(b"5")
    assert member.read(1) == [(5, b"5")]


def test_a_record_larger_than_what_is_asked_for_comes_whole(kafka: Kafka) -> None:
    """Nearly the most that a topic takes, incompressible, seven times a fetch: no harm."""
    noise = Random("large")  # noqa: S311 - the same bytes each time
    large = [noise.randbytes(LARGE) for _ in range(3)]
    for body in (b"0", *large, b"4"):
        kafka.write(body)
    member = kafka.join()
    eventually(is_owner(member))
    member.go_to(0)
    assert member.read(5) == list(enumerate([b"0", *large, b"4"]))


def test_an_offset_that_the_log_lacks_is_told(kafka: Kafka) -> None:
    """Never a silent jump: out of range is an error, and assigned anew one can go on."""
    kafka.write(b"0")
    member = kafka.join()
    eventually(is_owner(member))
    member.go_to(7)
    assert is_gap(member.error())
    with pytest.raises(KafkaException):
        member.go_to(0)
    member.client.incremental_unassign(member.at())
    member.client.incremental_assign(member.at(OFFSET_BEGINNING))
    member.client.pause(member.at())
    member.go_to(0)
    assert member.read(1) == [(0, b"0")]


def test_offsets_are_committed_for_the_group(kafka: Kafka) -> None:
    """At once if one waits; else the answer comes with a poll."""
    member = kafka.join()
    eventually(is_owner(member))
    assert kafka.committed() < 0
    member.client.commit(offsets=member.at(4), asynchronous=False)
    assert kafka.committed() == 4
    member.client.commit(offsets=member.at(3), asynchronous=True)
    eventually(lambda: member.poll() is not None and len(member.committed) > 0)
    error, entries = member.committed[-1]
    assert (error, entries[0].partition, entries[0].offset) == (None, PARTITION, 3)
    assert kafka.committed() == 3


def test_a_partition_has_one_owner(kafka: Kafka) -> None:
    """A second member gets its share only once the first has let go; who leaves leaves all."""
    first = kafka.join()
    eventually(lambda: first.poll() is not None and len(first.owned) == 12)
    second = kafka.join()

    def is_shared() -> bool:
        first.poll()
        second.poll()
        assert not first.owned & second.owned
        return len(first.owned) == len(second.owned) == 6

    eventually(is_shared)
    second.client.close()
    assert second.owned == set()
    eventually(lambda: first.poll() is not None and len(first.owned) == 12)


def test_who_does_not_own_a_partition_cannot_move_in_it(kafka: Kafka) -> None:
    """To seek in a partition that was taken away is an error, not a silent success."""
    member = kafka.join()
    with pytest.raises(KafkaException):
        member.client.seek(*member.at(0))


def test_the_cluster_tells_the_range_of_a_log(kafka: Kafka) -> None:
    """From the first record to behind the last; the topic has one id."""
    kafka.write(b"0")
    kafka.write(b"1")
    assert kafka.cluster.log_ranges([PARTITION, 4]) == {PARTITION: (0, 2), 4: (0, 0)}
    assert kafka.cluster.log_ends([PARTITION]) == {PARTITION: 2}
    assert kafka.cluster.topic_id() == kafka.cluster.topic_id() != ""
