"""How far a consumer is behind, in records and in seconds."""

import time
from collections.abc import Callable, Sequence

from consumer.records import Record
from consumer.storage.positions import Position
from schemas.metrics import ConsumerMetrics


class Lag:
    """Follows each partition's oldest record that is not applied yet."""

    def __init__(self, metrics: ConsumerMetrics, now: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._now = now
        self._behind_since: dict[int, float] = {}

    def polled(self, records: Sequence[Record]) -> None:
        """Note what was polled: the first record of a partition is its oldest not yet applied."""
        for record in reversed(records):
            self._behind_since[record.partition] = record.timestamp.timestamp()

    def observe(self, position: Position, log_end: int, committed: int | None) -> int:
        """Export a partition's lag and return it; `log_end` below zero: it is not known yet."""
        partition = position.partition
        label = str(partition)
        lag = max(log_end - position.next_offset, 0)
        since = self._behind_since.setdefault(partition, self._now()) if lag else None
        if since is None:
            self._behind_since.pop(partition, None)
        age = max(self._now() - since, 0.0) if since is not None else 0.0
        self._metrics.lag_records.labels(label).set(lag)
        self._metrics.lag_seconds.labels(label).set(age)
        if committed is not None:
            uncommitted = max(position.next_offset - committed, 0)
            self._metrics.uncommitted_records.labels(label).set(uncommitted)
        return lag

    def forget(self, partition: int) -> None:
        """Drop a partition that is no longer ours from the export."""
        self._behind_since.pop(partition, None)
        for gauge in (
            self._metrics.lag_records,
            self._metrics.lag_seconds,
            self._metrics.uncommitted_records,
        ):
            if (str(partition),) in gauge._metrics:  # noqa: SLF001 - remove() logs if absent
                gauge.remove(str(partition))
