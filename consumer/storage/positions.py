"""How far each partition is applied, in PostgreSQL: moved by compare-and-set with the effects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping, text

from consumer.errors import Cause, Halt, Retry


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset to apply of one partition; `epoch` grows when an operator skips a gap."""

    partition: int
    topic_id: str
    next_offset: int
    epoch: int = 0

    def moved_to(self, next_offset: int) -> "Position":
        """Return this position, further on."""
        return replace(self, next_offset=next_offset)


_LOAD = """
SELECT partition, topic_id, next_offset, epoch FROM consumer_positions
WHERE consumer_group = :group AND topic = :topic AND partition = ANY(:partitions)
ORDER BY partition
"""
_LOCK = text(_LOAD + " FOR UPDATE")
_INSERT = text("""
INSERT INTO consumer_positions (consumer_group, topic, topic_id, partition, next_offset)
SELECT :group, :topic, :topic_id, p.partition, p.next_offset
FROM unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[])) AS p (partition, next_offset)
ORDER BY p.partition
ON CONFLICT DO NOTHING
""")
_MOVE = text("""
UPDATE consumer_positions AS stored SET next_offset = new.next_offset
FROM unnest(CAST(:partitions AS int[]), CAST(:expected AS bigint[]), CAST(:offsets AS bigint[]))
     AS new (partition, expected, next_offset)
WHERE stored.consumer_group = :group AND stored.topic = :topic
  AND stored.partition = new.partition AND stored.next_offset = new.expected
""")


class Positions:
    """The positions of one consumer group on one topic; the caller owns the transaction."""

    def __init__(self, group: str, topic: str) -> None:
        self._names = {"group": group, "topic": topic}

    def load(self, connection: Connection, partitions: Iterable[int]) -> dict[int, Position]:
        """Return the stored positions of these partitions; one without any is absent."""
        rows = connection.execute(text(_LOAD), self._names | {"partitions": sorted(partitions)})
        return _by_partition(rows.mappings().all())

    def insert(self, connection: Connection, positions: Sequence[Position]) -> None:
        """Store first positions; one that exists by now stays as it is."""
        if not positions:
            return
        connection.execute(
            _INSERT,
            self._names
            | {
                "topic_id": positions[0].topic_id,
                "partitions": [position.partition for position in positions],
                "offsets": [position.next_offset for position in positions],
            },
        )

    def lock(self, connection: Connection, expected: Mapping[int, Position]) -> dict[int, Position]:
        """Lock the rows of these partitions and return them.

        Raises Retry(position) where one is missing, of another topic or epoch, or behind what
        this process last wrote: the database was set back, and records must be read again.
        """
        rows = connection.execute(_LOCK, self._names | {"partitions": sorted(expected)})
        stored = _by_partition(rows.mappings().all())
        for partition, known in expected.items():
            found = stored.get(partition)
            if (
                found is None
                or (found.topic_id, found.epoch) != (known.topic_id, known.epoch)
                or found.next_offset < known.next_offset
            ):
                raise Retry(Cause.POSITION, f"partition {partition}: {known} became {found}")
        return stored

    def move(
        self,
        connection: Connection,
        before: Mapping[int, Position],
        after: Mapping[int, Position],
    ) -> None:
        """Set positions that this transaction has locked; raises Halt if a row is not as read."""
        partitions = sorted(after)
        if not partitions:
            return
        result = connection.execute(
            _MOVE,
            self._names
            | {
                "partitions": partitions,
                "expected": [before[partition].next_offset for partition in partitions],
                "offsets": [after[partition].next_offset for partition in partitions],
            },
        )
        if result.rowcount != len(partitions):
            raise Halt("consumer_positions changed under a row lock: check for triggers or rules")


def _by_partition(rows: Sequence[RowMapping]) -> dict[int, Position]:
    return {row["partition"]: Position(**row) for row in rows}
