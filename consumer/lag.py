"""How far a consumer is behind, in records and in seconds, and how fast it goes."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from consumer.records import Record
from consumer.storage.positions import Position
from schemas.metrics import ConsumerMetrics


class Lag:
    """Follows each partition's oldest record that is not applied yet.

    Its age is computed when somebody asks for the metrics: a loop that hangs lets it grow.
    """

    def __init__(self, metrics: ConsumerMetrics, now: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._now = now
        self._behind_since: dict[int, float] = {}

    def polled(self, records: Sequence[Record]) -> None:
        """Note what was polled: the first record of a partition is its oldest not yet applied."""
        oldest = {record.partition: record for record in reversed(records)}
        for partition, record in oldest.items():
            self._behind_since[partition] = record.timestamp.timestamp()

    def applied(self, before: Mapping[int, Position], after: Mapping[int, Position]) -> None:
        """Count how far positions moved on."""
        for partition, position in after.items():
            moved = position.next_offset - before[partition].next_offset
            self._metrics.applied_records.labels(partition).inc(max(moved, 0))

    def observe(self, position: Position, log_end: int, committed: int | None) -> int:
        """Export a partition's lag and return it; `log_end` below zero: it is not known yet."""
        partition = position.partition
        lag = max(log_end - position.next_offset, 0)
        if lag:
            self._behind_since.setdefault(partition, self._now())
        else:
            self._behind_since.pop(partition, None)
        self._metrics.lag_records.labels(partition).set(lag)
        self._metrics.lag_seconds.labels(partition).set_function(partial(self._age, partition))
        self._metrics.applied_records.labels(partition)
        if committed is not None:
            uncommitted = max(position.next_offset - committed, 0)
            self._metrics.uncommitted_records.labels(partition).set(uncommitted)
        return lag

    def forget(self, partition: int) -> None:
        """Drop a partition that is no longer ours from the export."""
        self._behind_since.pop(partition, None)
        self._metrics.lag_records.forget(partition)
        self._metrics.lag_seconds.forget(partition)
        self._metrics.uncommitted_records.forget(partition)
        self._metrics.applied_records.forget(partition)

    def _age(self, partition: int) -> float:
        since = self._behind_since.get(partition)
        return 0.0 if since is None else max(self._now() - since, 0.0)
