"""A batch whose rows somebody else holds is tried again, smaller after a while, never set aside."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import structlog

from consumer.batch import Batch
from consumer.errors import Cause, Retry
from consumer.records import Record
from consumer.storage.ledger import Ledger
from consumer.storage.positions import Position
from schemas.labels import Verdict
from schemas.metrics import ConsumerMetrics

log = structlog.get_logger()

HALVE_AFTER = 5
"""Contended tries of one batch, after which it is halved."""

END_AFTER = 2
"""Lock timeouts in a row, after which the session that blocks us is ended."""

CONTENDED_SECONDS = 60.0
"""After that long, poll again: a member that does not poll is put out of the group."""


class Contention:
    """Applies batches, as often as it takes while others hold their rows."""

    def __init__(
        self,
        batch: Batch,
        ledger: Ledger,
        metrics: ConsumerMetrics,
        *,
        is_stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._batch = batch
        self._ledger = ledger
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._clock = clock
        self._sleep = sleep

    def apply(
        self, records: Sequence[Record], positions: Mapping[int, Position]
    ) -> Iterator[dict[int, Position]]:
        """Apply records part by part; yields the positions after each part that stands.

        Blocks. Ends early if the process is to stop while others hold our rows. Raises Retry if
        the database is away or a minute passed, and Halt.
        """
        work, current = [records], dict(positions)
        tries = blocked = 0
        give_up_at = self._clock() + CONTENDED_SECONDS
        while work and not (tries and self._is_stopping()):
            try:
                with self._ledger.ending_blockers() if blocked >= END_AFTER else nullcontext():
                    current |= self._batch.apply(work[0], current)
            except Retry as retry:
                self._metrics.batches.labels(Verdict(retry.cause)).inc()
                contended = retry.cause in {Cause.CONTENTION, Cause.BLOCKED}
                if not contended or self._clock() > give_up_at:
                    raise
                tries += 1
                blocked = blocked + 1 if retry.cause is Cause.BLOCKED else 0
                self._pause(tries, retry)
                if tries % HALVE_AFTER == 0 and len(work[0]) > 1:
                    half = len(work[0]) // 2
                    work[:1] = [work[0][:half], work[0][half:]]
            else:
                work.pop(0)
                yield current

    def _pause(self, tries: int, retry: Retry) -> None:
        log.info("batch_contended", tries=tries, why=str(retry))
        self._sleep(random.uniform(0.005, 0.05) * min(tries, 10))  # noqa: S311 - jitter
