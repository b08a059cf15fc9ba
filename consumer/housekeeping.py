"""What a consumer does between batches, every second, minute or day; never what decides state."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from consumer.storage.dead_letters import Standing
from consumer.storage.invalidation import Sweeper
from consumer.storage.ledger import Ledger
from schemas.labels import LetterReason
from schemas.metrics import ConsumerMetrics
from schemas.plans import Plans

MINUTE_SECONDS = 60.0
DAY_SECONDS = 24 * 3600.0
SWEEP_SECONDS = 0.5
"""How long one sweep may keep the next batch waiting."""

GRACE_ROWS = 500
LOOK_BACK = timedelta(minutes=1)
"""What a batch had locked at one look is found by a later one."""

WHOLE_LOOK_SECONDS = 600.0
"""How often grace periods are looked for that were over when they were stored."""


class Housekeeping:
    """Sweeps the cache, ends grace periods, counts dead letters; once a day months and tiers."""

    def __init__(
        self,
        ledger: Ledger,
        sweeper: Sweeper,
        plans: Plans,
        metrics: ConsumerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._sweeper = sweeper
        self._plans = plans
        self._metrics = metrics
        self._clock = clock
        self._next_minute = clock()
        self._next_day = clock()
        self._next_whole_look = clock()
        self._looked_until: datetime | None = None

    def run(self) -> None:
        """Do what is due; safe in any number of processes at once. Raises Retry or Halt."""
        self._sweep()
        self._expire_graces()
        if self._clock() >= self._next_day:
            with self._ledger.transaction() as transaction:
                transaction.write_tiers(self._plans)
                transaction.attach_months(datetime.now(UTC).date())
            self._next_day = self._clock() + DAY_SECONDS

    def _sweep(self) -> None:
        self._sweeper.probe()
        until = self._clock() + SWEEP_SECONDS
        while self._sweep_once() and self._clock() < until:
            pass

    def _sweep_once(self) -> bool:
        with self._ledger.transaction() as transaction:
            more = self._sweeper.sweep(transaction)
            waiting = transaction.count_overdue()
            if self._clock() >= self._next_minute:
                self._export(transaction.read_standing())
                self._next_minute = self._clock() + MINUTE_SECONDS
        self._metrics.invalidations_waiting.set(waiting.rows)
        self._metrics.invalidations_oldest_seconds.set(waiting.oldest_seconds)
        return more

    def _expire_graces(self) -> None:
        """Write down which grace periods have ended, and drop their customers' cache entries.

        Every entry ends with its grace period by itself; this is for one that was stored by a
        reader whose clock or Redis did not keep to that.
        """
        if self._clock() >= self._next_whole_look:
            self._looked_until = None
            self._next_whole_look = self._clock() + WHOLE_LOOK_SECONDS
        since = self._looked_until and self._looked_until - LOOK_BACK
        row = None
        with self._ledger.transaction() as transaction:
            expired = transaction.expire_graces(since, GRACE_ROWS)
            if expired.customers:
                row = transaction.record_invalidation(expired.customers)
        if row is not None:
            self._sweeper.drop(row, expired.customers)
        if not expired.more:
            self._looked_until = expired.now

    def _export(self, letters: Standing) -> None:
        for reason in LetterReason:
            self._metrics.open_letters.labels(reason).set(letters.open.get(reason, 0))
        self._metrics.oldest_letter.set(_seconds(letters.oldest))
        self._metrics.last_replay.set(_seconds(letters.last_replay))


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()
