"""A thread beside a consumer's loop that asks Stripe; of all consumers one at a time does."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from consumer.errors import Halt, Reject, Retry
from consumer.learn import Learner
from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from consumer.storage.stripe_tasks import Task
from consumer.storage.stripe_tasks import load as load_task
from ops.applying import open_batch
from ops.reconcile.run import BehindError, reconcile
from ops.reconcile.run import Options as ReconcileOptions
from ops.stripe_api.client import StripeError, open_api
from ops.stripe_api.failures import Failures
from ops.stripe_api.one_at_a_time import Turn, take_turn
from ops.stripe_api.reading import Reader
from ops.verify.run import Options as VerifyOptions
from ops.verify.run import verify
from ops.watch.schedule import Daily, Every
from ops.watch.ties import Ties
from schemas.labels import DriftKind, StripeTask
from schemas.metrics import StripeMetrics
from schemas.settings import BackfillSettings, ConsumerSettings, ReconcileSettings, load

log = structlog.get_logger()

TURN_SECONDS = 1.0
TIES_EVERY_SECONDS = 5.0
STOP_SECONDS = 5.0
MINUTE = 60
HALF_A_DAY = 12 * 3600
ALMOST = 0.9
"""What another process has done this share of the time ago is not done again by this one."""

NIGHTLY = VerifyOptions(full=True)

_EXPECTED = (StripeError, BehindError, Retry, Reject, Halt, DBAPIError)
"""What a later turn may find mended; anything else is a fault of ours, logged with its trace."""


class Watch:
    """The tasks of one process; `run` belongs to one thread."""

    def __init__(
        self,
        settings: ConsumerSettings,
        registry: CollectorRegistry,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        nightly: VerifyOptions = NIGHTLY,
    ) -> None:
        self._settings = settings
        self._nightly = nightly
        self._backfill = load(BackfillSettings)
        self._reconcile_settings = load(ReconcileSettings)
        self._metrics = StripeMetrics(registry)
        self._engine: Engine = make_engine(settings, "stripe")
        self._ending = threading.Event()
        self._ties = Ties(self._engine)
        every = Every(settings.reconcile_minutes * MINUTE, time.monotonic)
        daily = None if settings.verify_at is None else Daily(settings.verify_at, now)
        self._tasks: list[tuple[StripeTask, Every | Daily | None, Turn, Callable[[], None]]] = [
            (
                StripeTask.TIES,
                Every(TIES_EVERY_SECONDS, time.monotonic),
                Turn.TIES,
                self._settle_ties,
            ),
            (
                StripeTask.RECONCILE,
                every if settings.reconcile_minutes else None,
                Turn.RECONCILE,
                self._reconcile,
            ),
            (StripeTask.VERIFY, daily, Turn.VERIFY, self._verify),
        ]

    def run(self) -> None:
        """Do what is due until told to end; never raises."""
        while not self._ending.wait(TURN_SECONDS):
            for name, schedule, turn, act in self._tasks:
                if schedule is not None and schedule.is_due() and not self._ending.is_set():
                    self._act(name, turn, act)
                    schedule.done()

    def end(self) -> None:
        """Let the thread end after the task that runs."""
        self._ending.set()

    def _act(self, name: StripeTask, turn: Turn, act: Callable[[], None]) -> None:
        try:
            with take_turn(self._engine, turn) as is_ours:
                if is_ours:
                    act()
            self._tell_ages()
        except _EXPECTED as error:
            self._metrics.failures.labels(name).inc()
            log.warning("stripe_task_postponed", task=name, why=str(error).splitlines()[0])
        except Exception:
            self._metrics.failures.labels(name).inc()
            log.exception("stripe_task_failed", task=name)

    def _was_done(self, task: Task, seconds: float) -> bool:
        """Tell whether any process came to the end of this within so many seconds."""
        ended = self._ended_at(task)
        return ended is not None and time.time() - ended < seconds * ALMOST

    def _ended_at(self, task: Task) -> float | None:
        with snapshot(self._engine) as connection:
            standing = load_task(connection, task)
        if standing is None or standing.completed_at is None:
            return None
        return standing.completed_at.timestamp()

    def _tell_ages(self) -> None:
        """Export how long ago the tasks were done, whichever process did them."""
        self._metrics.last_reconcile.set(self._ended_at(Task.RECONCILE) or 0)
        self._metrics.last_verify.set(self._ended_at(Task.VERIFY) or 0)

    def _settle_ties(self) -> None:
        found = self._ties.find()
        if not found:
            return
        api = open_api(self._backfill)
        try:
            with open_batch(self._backfill, self._engine) as applying:
                reader = Reader(self._backfill.livemode, Failures(api))
                learner = Learner(applying.ledger, applying.batch)
                for name in self._ties.settle(found, api, reader, learner):
                    self._metrics.settled_ties.inc()
                    log.info("tie_settled", subscription=name)
        finally:
            api.close()

    def _reconcile(self) -> None:
        if self._was_done(Task.RECONCILE, self._settings.reconcile_minutes * MINUTE):
            return
        tally = reconcile(self._reconcile_settings, ReconcileOptions(yes=True), self._engine)
        self._metrics.missing.inc(tally.missing)
        if tally.missing:
            log.warning(
                "lost_events_sent",
                events=tally.sent,
                customers=len(tally.customers),
                types=dict(tally.types),
                oldest=tally.oldest,
            )

    def _verify(self) -> None:
        if self._was_done(Task.VERIFY, HALF_A_DAY):
            return
        outcome = verify(self._backfill, self._nightly, self._engine)
        kinds = Counter(one.kind for one in outcome.found)
        for kind in DriftKind:
            self._metrics.drift.labels(kind).set(kinds[kind])
        log.info("verified", compared=outcome.compared, differences=len(outcome.found))
        for one in outcome.found:
            log.warning(
                "differs_from_stripe",
                subscription=one.subscription_id,
                customer=one.customer_id,
                kind=one.kind,
                why=one.sentence,
            )


@contextmanager
def watching(settings: ConsumerSettings, registry: CollectorRegistry) -> Iterator[None]:
    """Run the tasks in a thread while the context is open.

    Raises SettingsError for what they need besides, such as HOOKLINE_LIVEMODE.
    """
    watch = Watch(settings, registry)
    thread = threading.Thread(target=watch.run, name="stripe", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.end()
        thread.join(STOP_SECONDS)
