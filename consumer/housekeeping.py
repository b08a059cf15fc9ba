"""What a consumer does between batches, every second, minute or day; never what decides state."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from consumer.storage.dead_letters import Standing
from consumer.storage.invalidation import Sweeper
from consumer.storage.ledger import Ledger
from schemas.labels import LetterReason
from schemas.metrics import ConsumerMetrics
from schemas.plans import Plans

MINUTE_SECONDS = 60.0
DAY_SECONDS = 24 * 3600.0


class Housekeeping:
    """Sweeps the cache, counts dead letters, attaches the months ahead, keeps the view's tiers."""

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

    def run(self) -> None:
        """Do what is due; safe in any number of processes at once. Raises Retry or Halt."""
        with self._ledger.transaction() as transaction:
            self._sweeper.sweep(transaction)
        if self._clock() >= self._next_minute:
            with self._ledger.transaction() as transaction:
                self._export(transaction.read_standing())
            self._next_minute = self._clock() + MINUTE_SECONDS
        if self._clock() >= self._next_day:
            with self._ledger.transaction() as transaction:
                transaction.write_tiers(self._plans)
                transaction.attach_months(datetime.now(UTC).date())
            self._next_day = self._clock() + DAY_SECONDS

    def _export(self, letters: Standing) -> None:
        for reason in LetterReason:
            self._metrics.open_letters.labels(reason).set(letters.open.get(reason, 0))
        self._metrics.oldest_letter.set(_seconds(letters.oldest))
        self._metrics.last_replay.set(_seconds(letters.last_replay))


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()
