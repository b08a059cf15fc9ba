"""Composition root of a consumer: builds, runs, closes in reverse."""

import gc
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FrameType

import structlog

from consumer.batch import Batch
from consumer.decode import Decoder
from consumer.errors import Halt
from consumer.failpoints import arm
from consumer.housekeeping import Housekeeping
from consumer.kafka import Cluster, connect
from consumer.loop import Loop
from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.engine import make_engine
from consumer.storage.hints import Hints
from consumer.storage.invalidation import Sweeper
from consumer.storage.positions import Positions
from consumer.storage.postgres import PostgresLedger
from consumer.storage.redis_session import WrongRedisError, open_session
from schemas.metrics import ConsumerMetrics, new_registry
from schemas.plans import load_plans
from schemas.readiness import Beside, Readiness, ServeAdmin
from schemas.settings import ConsumerSettings
from schemas.trace import Spans

log = structlog.get_logger()

STOP_SECONDS = 20


def run(
    settings: ConsumerSettings,
    *,
    serve_admin: ServeAdmin,
    beside: Beside,
    spans: Spans | None = None,
) -> int:
    """Consume until SIGTERM or SIGINT and return the exit code; blocks.

    A second signal, or 20 seconds, ends the process at once with a code other than 0; the
    positions make that safe. Raises PlansError, or Halt before the first batch.
    """
    registry = new_registry()
    metrics = ConsumerMetrics(registry)
    readiness = Readiness()
    plans = load_plans(settings.plans_file)
    redis_url = settings.redis_url.get_secret_value()
    redis = BoundedRedis(partial(open_session, redis_url), metrics.redis)
    try:
        redis.greet()
    except WrongRedisError as error:
        raise Halt(str(error)) from None
    engine = make_engine(settings, "consumer")
    reach = arm(settings.failpoint, engine)
    ledger = PostgresLedger(engine, metrics.ended_backends.inc)
    positions = Positions(settings.kafka_group, settings.kafka_topic)
    sweeper = Sweeper(redis)
    housekeeping = Housekeeping(ledger, sweeper, plans, metrics)
    batch = Batch(
        decoder=Decoder(settings.record_secrets()),
        hints=Hints(redis),
        ledger=ledger,
        positions=positions,
        sweeper=sweeper,
        plans=plans,
        grace=timedelta(hours=settings.grace_hours),
        metrics=metrics,
        now=lambda: datetime.now(UTC),
        reach=reach,
        spans=spans,
    )
    loop = Loop(
        connect=partial(connect, settings),
        cluster=Cluster(settings),
        topic=settings.kafka_topic,
        ledger=ledger,
        positions=positions,
        batch=batch,
        metrics=metrics,
        housekeeping=housekeeping.run,
        reach=reach,
    )
    readiness.add("kafka", loop.kafka_problem)
    readiness.add("postgresql", loop.database_problem)
    readiness.add("progress", loop.progress_problem)
    readiness.add("redis", redis.problem, optional=True)
    _collect_garbage_rarely()
    with (
        serve_admin(settings.admin_host, settings.consumer_admin_port, registry, readiness),
        beside(registry),
    ):
        _stop_on_signals(loop.stop, readiness)
        try:
            loop.run()
        except Halt as halt:
            log.error("halted", why=str(halt))  # noqa: TRY400 - the sentence is the message
            return 1
        finally:
            redis.close()
    log.info("stopped")
    return 0


def _collect_garbage_rarely() -> None:
    """Spare the batches the collector's walks over all that was imported: a sixth of the rate."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _stop_on_signals(stop: Callable[[], None], readiness: Readiness) -> None:
    def handle(signum: int, _frame: FrameType | None) -> None:
        # The next signal ends the process where it stands.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log.info("stopping", signal=signal.Signals(signum).name)
        readiness.drain()
        stop()
        deadline = threading.Timer(STOP_SECONDS, _give_up)
        deadline.daemon = True
        deadline.start()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _give_up() -> None:
    log.error("not_stopped_in_time", seconds=STOP_SECONDS)
    os._exit(1)
