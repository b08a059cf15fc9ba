"""How far a consumer is behind, in records and in seconds."""

import time
from collections.abc import Callable, Mapping, Sequence

from consumer.records import Record
from schemas.metrics import ConsumerMetrics


class Lag:
    """Follows each partition's oldest record that is not applied yet."""

    def __init__(self, metrics: ConsumerMetrics, now: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._now = now
        self._behind_since: dict[int, float] = {}

    def applied(self, records: Sequence[Record]) -> None:
        """Note what was applied: what comes next in a partition is not older than its last."""
        for record in records:
            self._behind_since[record.partition] = record.timestamp.timestamp()

    def observe(
        self, partition: int, position: int, log_end: int, committed: Mapping[int, int]
    ) -> None:
        """Export a partition's lag; `log_end` below zero means that it is not known yet."""
        label = str(partition)
        lag = max(log_end - position, 0)
        since = self._behind_since.setdefault(partition, self._now()) if lag else None
        if since is None:
            self._behind_since.pop(partition, None)
        age = max(self._now() - since, 0.0) if since is not None else 0.0
        self._metrics.lag_records.labels(label).set(lag)
        self._metrics.lag_seconds.labels(label).set(age)
        if partition in committed:
            uncommitted = max(position - committed[partition], 0)
            self._metrics.uncommitted_records.labels(label).set(uncommitted)

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
