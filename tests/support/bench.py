"""A batch with real storage, for tests that need events applied without Kafka."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import Engine

from consumer.batch import Batch
from consumer.decode import Decoder
from consumer.records import Record
from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.engine import make_engine
from consumer.storage.hints import Hints
from consumer.storage.invalidation import Sweeper
from consumer.storage.positions import Position, Positions
from consumer.storage.postgres import PostgresLedger
from consumer.storage.redis_session import open_session
from schemas.metrics import ConsumerMetrics
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings
from schemas.signature import sign
from support.pipeline import SECRET
from support.stripe import T0, Json, body

TOPIC = "stripe.events"
START = {0: Position(0, "topic-id", 0)}


class Bench:
    """A batch with real storage, fed with records made here."""

    def __init__(self, database_url: str, redis_url: str, plans_file: Path) -> None:
        self.url = database_url
        self.registry = CollectorRegistry()
        metrics = ConsumerMetrics(self.registry)
        self.engine: Engine = make_engine(
            DatabaseSettings(database_url=SecretStr(database_url)), "test"
        )
        self.ledger = PostgresLedger(self.engine)
        self.redis = BoundedRedis(partial(open_session, redis_url), metrics.redis)
        self.positions = Positions("group", TOPIC)
        self.sweeper = Sweeper(self.redis)
        self.batch = Batch(
            decoder=Decoder([SECRET]),
            hints=Hints(self.redis),
            ledger=self.ledger,
            positions=self.positions,
            sweeper=self.sweeper,
            plans=load_plans(plans_file),
            grace=timedelta(hours=24),
            metrics=metrics,
            now=lambda: datetime.now(UTC),
        )
        with self.ledger.transaction() as transaction:
            self.positions.insert(transaction, list(START.values()))

    def apply(
        self, documents: list[Json], at: Mapping[int, Position] = START
    ) -> dict[int, Position]:
        """Apply events as the records from a position on."""
        return self.batch.apply(records(documents, at[0].next_offset), at)

    def standing(self) -> dict[int, Position]:
        """Return the position that is stored."""
        with self.ledger.transaction() as transaction:
            return dict(self.positions.load(transaction, START))

    def query(self, statement: str) -> list[Any]:
        """Ask the database."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()

    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        """Return what became of each event."""
        rows = self.query("SELECT event_id, outcome, reason FROM webhook_events")
        return {row[0]: (row[1], row[2]) for row in rows}

    def counted(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(name, labels) or 0


def records(documents: list[Json], first: int = 0, secret: str = SECRET) -> list[Record]:
    """Return signed records of partition 0."""
    return [
        Record(
            TOPIC,
            0,
            first + n,
            (document["data"]["object"].get("customer") or "").encode() or None,
            body(document),
            datetime.now(UTC),
            [("hookline_signature", sign(body(document), secret, T0).encode())],
        )
        for n, document in enumerate(documents)
    ]
