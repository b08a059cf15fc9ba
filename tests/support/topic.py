"""A deployment's topic, written by hand: signed events without ingest, and what is no event."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from schemas.envelope import Headers
from schemas.signature import sign
from schemas.stripe_event import customer_of
from schemas.topics import PARTITIONS, topic_config
from support.pipeline import SECRET, Pipeline
from support.polling import eventually
from support.stripe import Json, body, decoded

Given = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record."""


@dataclass(frozen=True, slots=True)
class Written:
    """A record as it stands in the log."""

    partition: int
    offset: int
    body: bytes


def make_topic(admin: AdminClient, name: str, partitions: int = PARTITIONS) -> None:
    """Make a topic on one broker; waits until the broker answers as leader of each partition."""
    new = NewTopic(name, partitions, 1, config=topic_config(1))
    admin.create_topics([new])[name].result()
    eventually(lambda: _is_led(admin, name, partitions), what=f"leading {name}")


def _is_led(admin: AdminClient, name: str, partitions: int) -> bool:
    newest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(name, partition): newest for partition in range(partitions)}
    try:
        for answer in admin.list_offsets(asked).values():
            answer.result()
    except KafkaException:
        return False
    return True


class Topic:
    """The topic of one deployment."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.name = pipeline.variables["HOOKLINE_KAFKA_TOPIC"]
        bootstrap = {"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]}
        self._producer = Producer(bootstrap | {"partitioner": "murmur2_random", "linger.ms": 5})

    def send(self, events: Iterable[Json], secret: str = SECRET) -> list[Written]:
        """Write events as ingest does, signed now; returns where they stand, in order."""
        records: list[Given] = []
        for event in events:
            content = body(event)
            signature = sign(content, secret, int(time.time()))
            key = (customer_of(decoded(event)) or str(event["id"])).encode()
            records.append((key, content, [("hookline_signature", signature.encode())]))
        return self.write(records)

    def write(self, records: Sequence[Given]) -> list[Written]:
        """Write records of key, value and headers; blocks until all stand in the log."""
        found: dict[int, Written] = {}

        def note(number: int, error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            content = message.value()
            assert not isinstance(content, str)
            found[number] = Written(message.partition() or 0, message.offset() or 0, content or b"")

        for number, (key, content, headers) in enumerate(records):
            self._producer.produce(
                self.name,
                content,
                key,
                headers=list(headers),
                on_delivery=partial(note, number),
            )
            self._producer.poll(0)
        assert self._producer.flush(30) == 0
        return [found[number] for number in range(len(records))]
