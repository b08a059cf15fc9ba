"""One ingest process on a topic of its own, and what stands in that topic."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.signature import sign
from schemas.topics import PARTITIONS
from support.pipeline import SECRET, Pipeline, environment
from support.raw_http import request
from support.servers import Servers
from support.topic import make_topic

Record = tuple[bytes, bytes]
"""Body and signature header."""


@contextmanager
def serving(servers: Servers, folder: Path, **more: str) -> Iterator[Pipeline]:
    """Run ingest while the context is open; its secrets come from the file `secrets`."""
    topic = f"ingest-{uuid.uuid4().hex[:8]}"
    make_topic(AdminClient({"bootstrap.servers": servers.kafka_bootstrap}), topic)
    secrets = folder / "secrets"
    secrets.write_text(SECRET)
    variables = environment(
        folder,
        servers.kafka_bootstrap,
        servers.database_url,
        servers.redis_url,
        HOOKLINE_KAFKA_TOPIC=topic,
        HOOKLINE_WEBHOOK_SECRETS_FILE=str(secrets),
        **more,
    )
    del variables["HOOKLINE_WEBHOOK_SECRETS"]
    pipeline = Pipeline(folder, variables)
    pipeline.start("ingest")
    try:
        yield pipeline
    finally:
        pipeline.stop()


def port_of(ingest: Pipeline) -> int:
    """Return the webhook port."""
    return int(ingest.variables["HOOKLINE_INGEST_PORT"])


def signed(content: bytes, *, secret: str = SECRET, **headers: str) -> bytes:
    """Return a request signed now."""
    return request(content, stripe_signature=stamp(content, secret), **headers)


def stamp(content: bytes, secret: str = SECRET) -> str:
    """Return the signature header of a body, signed now."""
    return sign(content, secret, int(time.time()))


def records(ingest: Pipeline) -> list[Record]:
    """Read the whole topic, to the ends it has now."""
    topic = ingest.variables["HOOKLINE_KAFKA_TOPIC"]
    bootstrap = ingest.variables["HOOKLINE_KAFKA_BOOTSTRAP"]
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False}
    )
    found: list[Record] = []
    for number in range(PARTITIONS):
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        consumer.assign([TopicPartition(topic, number, 0)])
        offset = 0
        while offset < end:
            message = consumer.poll(30)
            assert message is not None, "the topic is not read"
            assert message.error() is None, message.error()
            offset = (message.offset() or 0) + 1
            found.append((_bytes(message.value()), _signature(message.headers())))
    consumer.close()
    return found


def _signature(headers: object) -> bytes:
    assert isinstance(headers, list)
    return _bytes(dict(headers)["hookline_signature"])


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
