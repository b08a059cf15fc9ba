"""The SQL of a consumer's batches, replayed from memory: what PostgreSQL itself can take.

First the batches are applied for real, on a database that is thrown away, and every statement
is kept with its values. Then the statements run on the measured database as fast as the driver
goes, with nothing between them: no Kafka, no decoding, no folding, no Redis.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import Engine, event

from consumer.batch import Batch
from consumer.decode import Decoder
from consumer.kafka import Cluster, to_record
from consumer.loop import BATCH_RECORDS
from consumer.records import Record
from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.engine import bind_arrays_in_binary, make_engine
from consumer.storage.hints import Hints
from consumer.storage.invalidation import Sweeper
from consumer.storage.positions import Position, Positions
from consumer.storage.postgres import PostgresLedger
from consumer.storage.redis_session import open_session
from ops.invariants.event_log import EventLog
from ops.logs import configure
from schemas.metrics import ConsumerMetrics
from schemas.plans import load_plans
from schemas.settings import ConsumerSettings, DatabaseSettings, load

COMMIT = ("", None)
SCRATCH = "BENCH_SCRATCH_URL"
"""Where the batches are applied for real."""

Statement = tuple[str, Any]


def main() -> None:
    """Apply, keep, replay; ends when the last transaction is committed."""
    configure("warning", "replay")
    settings = load(ConsumerSettings)
    scratch = DatabaseSettings(database_url=SecretStr(os.environ[SCRATCH]))
    statements = record_statements(settings, make_engine(scratch, "bench"))
    replay(settings.database_url.get_secret_value(), statements)


def record_statements(settings: ConsumerSettings, engine: Engine) -> list[Statement]:
    """Apply all records of the topic in full batches; return what was executed."""
    statements: list[Statement] = []

    def keep(_connection: Any, _cursor: Any, sql: str, values: Any, *_rest: Any) -> None:
        statements.append((sql, values))

    # Before the first connection, which would not look again for who listens.
    event.listen(engine, "before_cursor_execute", keep)
    event.listen(engine, "commit", lambda _connection: statements.append(COMMIT))
    batch, positions = build(settings, engine)
    for records in batches(read_topic(settings)):
        positions |= batch.apply(records, positions)
    return statements


def replay(url: str, statements: Sequence[Statement]) -> None:
    """Execute statements one after the other, and fetch what they return."""
    with psycopg.connect(url) as connection:
        bind_arrays_in_binary(connection)
        for sql, values in statements:
            if not sql:
                connection.commit()
                continue
            cursor = connection.execute(sql.encode(), values)
            if cursor.description is not None:
                cursor.fetchall()


def build(settings: ConsumerSettings, engine: Engine) -> tuple[Batch, dict[int, Position]]:
    """Return a consumer's batch on this database, and its first positions."""
    metrics = ConsumerMetrics(CollectorRegistry())
    redis = BoundedRedis(
        partial(open_session, settings.redis_url.get_secret_value()), metrics.redis
    )
    ledger = PostgresLedger(engine)
    stored = Positions(settings.kafka_group, settings.kafka_topic)
    cluster = Cluster(settings)
    first = {number: Position(number, cluster.topic_id(), 0) for number in cluster.partitions()}
    with ledger.transaction() as transaction:
        stored.insert(transaction, list(first.values()))
    batch = Batch(
        decoder=Decoder(settings.record_secrets()),
        hints=Hints(redis),
        ledger=ledger,
        positions=stored,
        sweeper=Sweeper(redis),
        plans=load_plans(settings.plans_file),
        grace=timedelta(hours=settings.grace_hours),
        metrics=metrics,
        now=lambda: datetime.now(UTC),
    )
    return batch, first


def read_topic(settings: ConsumerSettings) -> Iterator[Record]:
    """Yield all records that the topic holds now, from all partitions as they come."""
    log = EventLog(settings.kafka_access(), settings.kafka_topic)
    bounds = log.bounds()
    reader = Consumer(
        {
            **settings.kafka_access(),
            "group.id": f"{settings.kafka_group}-reader",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    topic = settings.kafka_topic
    reader.assign([TopicPartition(topic, number, span.low) for number, span in bounds.items()])
    left = sum(span.end - span.low for span in bounds.values())
    while left > 0:
        for message in reader.consume(min(left, BATCH_RECORDS), 1.0):
            yield to_record(message)
            left -= 1
    reader.close()


def batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Cut records into batches as large as the loop's."""
    while batch := list(islice(records, BATCH_RECORDS)):
        yield batch


if __name__ == "__main__":
    main()
