"""Where a partition goes on: the stored position, held against what Kafka's log holds."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from consumer.kafka import Cluster
from consumer.storage.ledger import Ledger
from consumer.storage.positions import Position, Positions


class Gap(StrEnum):
    """Why the log does not hold what comes next; it stops a partition until an operator decides."""

    BEFORE_LOG = "before_log"
    """Retention, or somebody, deleted records that were not applied."""
    PAST_END = "past_end"
    """The log was cut: it ends before what was applied."""
    OTHER_TOPIC = "other_topic"
    """The topic was deleted and made again."""


@dataclass(frozen=True, slots=True)
class Start:
    """The stored position of a partition, and what keeps it from going on there, if anything."""

    position: Position
    gap: str | None

    def is_beyond(self, known: Mapping[int, Position]) -> bool:
        """Tell whether more is applied than this process knew."""
        before = known.get(self.position.partition)
        return before is not None and self.position.next_offset > before.next_offset


class Positioning:
    """Asks PostgreSQL and Kafka; neither waits for the other inside a transaction."""

    def __init__(self, cluster: Cluster, ledger: Ledger, positions: Positions) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._positions = positions

    def find(self, partitions: Collection[int]) -> list[Start]:
        """Return where these partitions go on, storing first positions; raises Retry or Halt.

        Blocks. Loading again is what settles a COMMIT whose answer was lost.
        """
        topic_id = self._cluster.topic_id()
        ranges = self._cluster.log_ranges(partitions)
        found = self._load(partitions)
        if missing := set(partitions) - found.keys():
            # From the beginning, whatever offset Kafka holds for the group: a database that was
            # set back to before its first position, or made anew, lacks what stands before it.
            self._store([Position(p, topic_id, ranges[p][0]) for p in sorted(missing)])
            found = self._load(partitions)
        return [
            Start(position, find_gap(position, topic_id, ranges[position.partition]))
            for position in found.values()
        ]

    def check(self, known: Mapping[int, Position]) -> None:
        """Raise Retry if PostgreSQL is behind what this process wrote, or away."""
        if known:
            with self._ledger.transaction() as transaction:
                self._positions.check(transaction, known)

    def skip(
        self, before: Mapping[int, Position], after: dict[int, Position]
    ) -> dict[int, Position]:
        """Move positions over offsets that hold no record; raises Retry or Halt."""
        with self._ledger.transaction() as connection:
            stored = self._positions.lock(connection, {p: before[p] for p in after})
            moved = {p: q for p, q in after.items() if q.next_offset > stored[p].next_offset}
            self._positions.move(connection, stored, moved)
        return stored | moved

    def _load(self, partitions: Iterable[int]) -> dict[int, Position]:
        with self._ledger.transaction() as connection:
            return self._positions.load(connection, partitions)

    def _store(self, positions: list[Position]) -> None:
        with self._ledger.transaction() as connection:
            self._positions.insert(connection, positions)


def judge(position: Position, topic_id: str, log_range: tuple[int, int]) -> Gap | None:
    """Tell what lies between a position and the log; None if the log holds what comes next."""
    low, high = log_range
    if position.topic_id != topic_id:
        return Gap.OTHER_TOPIC
    if position.next_offset < low:
        return Gap.BEFORE_LOG
    return Gap.PAST_END if position.next_offset > high else None


def find_gap(position: Position, topic_id: str, log_range: tuple[int, int]) -> str | None:
    """Say in words what `judge` tells, with the commands that lead on."""
    low, high = log_range
    at = position.next_offset
    gap = judge(position, topic_id, log_range)
    if gap is None:
        return None
    what = {
        Gap.OTHER_TOPIC: "the topic was deleted and made again",
        Gap.BEFORE_LOG: f"records {at} to {low - 1} are gone, the log begins at {low}",
        Gap.PAST_END: f"the log was cut off: it ends at {high}, applied is all before {at}",
    }[gap]
    return (
        f"{what}: see `hookline positions show`; restore the log, or go on with "
        f"`hookline positions accept-gap --partition {position.partition}`"
    )
