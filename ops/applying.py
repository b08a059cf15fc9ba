"""A batch without Kafka: what replays, backfills and repairs apply with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from consumer.batch import Batch
from consumer.decode import Decoder
from consumer.replay import PatientHints
from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.invalidation import Sweeper
from consumer.storage.positions import Positions
from consumer.storage.postgres import PostgresLedger
from consumer.storage.redis_session import open_session
from schemas.metrics import ConsumerMetrics
from schemas.plans import load_plans
from schemas.settings import BatchSettings


@dataclass(frozen=True, slots=True)
class Applying:
    """A batch, and the connection that it works on."""

    ledger: PostgresLedger
    batch: Batch


@contextmanager
def open_batch(
    settings: BatchSettings,
    engine: Engine,
    secrets: Sequence[str] | None = (),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Applying]:
    """Build what a consumer has, but for Kafka; close it at the end.

    `secrets` are those that records may be signed with; None: signatures do not matter. Raises
    PlansError.
    """
    metrics = ConsumerMetrics(CollectorRegistry())
    redis = BoundedRedis(
        partial(open_session, settings.redis_url.get_secret_value()), metrics.redis
    )
    ledger = PostgresLedger(engine)
    batch = Batch(
        decoder=Decoder(secrets),
        hints=PatientHints(redis),
        ledger=ledger,
        positions=Positions("", ""),
        sweeper=Sweeper(redis),
        plans=load_plans(settings.plans_file),
        grace=timedelta(hours=settings.grace_hours),
        metrics=metrics,
        now=now,
    )
    try:
        yield Applying(ledger, batch)
    finally:
        ledger.close()
        redis.close()
