"""What a consumer does between batches, once a second or once a day; never what decides state."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from consumer.storage.invalidation import Sweeper
from consumer.storage.ledger import Ledger
from schemas.plans import Plans

DAY_SECONDS = 24 * 3600.0


class Housekeeping:
    """Sweeps the cache, attaches the months ahead, keeps the tiers of the view up to date."""

    def __init__(
        self,
        ledger: Ledger,
        sweeper: Sweeper,
        plans: Plans,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._sweeper = sweeper
        self._plans = plans
        self._clock = clock
        self._next_day = clock()

    def run(self) -> None:
        """Do what is due; safe in any number of processes at once. Raises Retry or Halt."""
        with self._ledger.transaction() as transaction:
            self._sweeper.sweep(transaction)
        if self._clock() >= self._next_day:
            with self._ledger.transaction() as transaction:
                transaction.write_tiers(self._plans)
                transaction.attach_months(datetime.now(UTC).date())
            self._next_day = self._clock() + DAY_SECONDS
