"""How far each partition is applied, in PostgreSQL: moved by compare-and-set with the effects."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, TextClause, text

from consumer.errors import Cause, Halt, Retry


class Position(msgspec.Struct, frozen=True):
    """The next offset to apply of one partition; `epoch` grows when an operator skips a gap."""

    partition: int
    topic_id: str
    next_offset: int
    epoch: int = 0

    def moved_to(self, next_offset: int) -> "Position":
        """Return this position, further on."""
        return replace(self, next_offset=next_offset)


_SELECT = """
SELECT partition, topic_id, next_offset, epoch FROM consumer_positions
WHERE consumer_group = :group AND topic = :topic AND partition = ANY(:partitions)
ORDER BY partition
"""
_LOAD = text(_SELECT)
_LOCK = text(_SELECT + " FOR UPDATE")
_INSERT = text("""
INSERT INTO consumer_positions (consumer_group, topic, topic_id, partition, next_offset)
SELECT :group, :topic, :topic_id, p.partition, p.next_offset
FROM unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[])) AS p (partition, next_offset)
ORDER BY p.partition
ON CONFLICT DO NOTHING
""")
_ALL = text("""
SELECT partition, topic_id, next_offset, epoch FROM consumer_positions
WHERE consumer_group = :group AND topic = :topic ORDER BY partition
""")
_RESET = text("""
UPDATE consumer_positions SET next_offset = :next_offset, topic_id = :topic_id, epoch = epoch + 1
WHERE consumer_group = :group AND topic = :topic AND partition = :partition
  AND next_offset = :old_offset AND topic_id = :old_id AND epoch = :old_epoch
""")
_MOVE = text("""
UPDATE consumer_positions AS stored SET next_offset = new.next_offset
FROM unnest(CAST(:partitions AS int[]), CAST(:expected AS bigint[]), CAST(:offsets AS bigint[]))
     AS new (partition, expected, next_offset)
WHERE stored.consumer_group = :group AND stored.topic = :topic
  AND stored.partition = new.partition AND stored.next_offset = new.expected
""")


class PositionRows(Protocol):
    """The stored positions, as a transaction reads and writes them."""

    def load_positions(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        """Return the stored positions of these partitions; one without any is absent."""

    def lock_positions(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        """Lock the rows of these partitions in order, and return them."""

    def insert_positions(self, group: str, topic: str, new: Sequence[Position]) -> None:
        """Store first positions; one that exists by now stays as it is."""

    def move_positions(
        self,
        group: str,
        topic: str,
        before: Mapping[int, Position],
        after: Mapping[int, Position],
    ) -> int:
        """Set those positions that are as they were before; return how many."""


class Positions:
    """The positions of one consumer group on one topic; the caller owns the transaction."""

    def __init__(self, group: str, topic: str) -> None:
        self._names = (group, topic)

    def load(self, rows: PositionRows, partitions: Iterable[int]) -> dict[int, Position]:
        """Return the stored positions of these partitions; one without any is absent."""
        return rows.load_positions(*self._names, partitions)

    def insert(self, rows: PositionRows, positions: Sequence[Position]) -> None:
        """Store first positions; one that exists by now stays as it is."""
        if positions:
            rows.insert_positions(*self._names, positions)

    def lock(self, rows: PositionRows, expected: Mapping[int, Position]) -> dict[int, Position]:
        """Lock the rows of these partitions and return them.

        Raises Retry(position) where one is missing, of another topic or epoch, or behind what
        this process last wrote: the database was set back, and records must be read again.
        """
        stored = rows.lock_positions(*self._names, expected)
        _compare(expected, stored)
        return stored

    def check(self, rows: PositionRows, expected: Mapping[int, Position]) -> None:
        """Look, without a lock, whether the database was set back. Raises Retry as lock does."""
        _compare(expected, rows.load_positions(*self._names, expected))

    def move(
        self, rows: PositionRows, before: Mapping[int, Position], after: Mapping[int, Position]
    ) -> None:
        """Set positions that this transaction has locked; raises Halt if a row is not as read."""
        if after and rows.move_positions(*self._names, before, after) != len(after):
            raise Halt("consumer_positions changed under a row lock: check for triggers or rules")


def _compare(expected: Mapping[int, Position], stored: Mapping[int, Position]) -> None:
    for partition, known in expected.items():
        found = stored.get(partition)
        if (
            found is None
            or (found.topic_id, found.epoch) != (known.topic_id, known.epoch)
            or found.next_offset < known.next_offset
        ):
            raise Retry(Cause.POSITION, f"partition {partition}: {known} became {found}")


def load_rows(
    connection: Connection, group: str, topic: str, partitions: Iterable[int]
) -> dict[int, Position]:
    """Return the stored positions of these partitions; one without any is absent."""
    return _select(connection, _LOAD, group, topic, partitions)


def lock_rows(
    connection: Connection, group: str, topic: str, partitions: Iterable[int]
) -> dict[int, Position]:
    """Lock the rows of these partitions in order, and return them."""
    return _select(connection, _LOCK, group, topic, partitions)


def load_all(connection: Connection, group: str, topic: str) -> dict[int, Position]:
    """Return all stored positions of a group on a topic."""
    rows = connection.execute(_ALL, {"group": group, "topic": topic}).mappings()
    return {row["partition"]: Position(**row) for row in rows}


def reset_row(
    connection: Connection, group: str, topic: str, before: Position, after: Position
) -> bool:
    """Set a position anew, one epoch on, if it still is as before; return whether it was.

    The new epoch disowns every mark in Redis of the old one, and whoever holds the old position.
    """
    result = connection.execute(
        _RESET,
        {
            "group": group,
            "topic": topic,
            "partition": before.partition,
            "next_offset": after.next_offset,
            "topic_id": after.topic_id,
            "old_offset": before.next_offset,
            "old_id": before.topic_id,
            "old_epoch": before.epoch,
        },
    )
    return result.rowcount == 1


def insert_rows(connection: Connection, group: str, topic: str, new: Sequence[Position]) -> None:
    """Store first positions of one topic id; one that exists by now stays as it is."""
    connection.execute(
        _INSERT,
        {
            "group": group,
            "topic": topic,
            "topic_id": new[0].topic_id,
            "partitions": [position.partition for position in new],
            "offsets": [position.next_offset for position in new],
        },
    )


def move_rows(
    connection: Connection,
    group: str,
    topic: str,
    before: Mapping[int, Position],
    after: Mapping[int, Position],
) -> int:
    """Set those positions that are as they were before; return how many."""
    partitions = sorted(after)
    result = connection.execute(
        _MOVE,
        {
            "group": group,
            "topic": topic,
            "partitions": partitions,
            "expected": [before[partition].next_offset for partition in partitions],
            "offsets": [after[partition].next_offset for partition in partitions],
        },
    )
    return result.rowcount


def _select(
    connection: Connection, statement: TextClause, group: str, topic: str, partitions: Iterable[int]
) -> dict[int, Position]:
    asked = {"group": group, "topic": topic, "partitions": sorted(partitions)}
    rows = connection.execute(statement, asked).mappings()
    return {row["partition"]: Position(**row) for row in rows}
