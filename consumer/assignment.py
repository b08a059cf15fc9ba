"""The partitions this process owns and how far each one is; state only, no client, no clock.

A partition is in one of three states: waiting (assigned and paused, its position not known),
active (position known, records flow), stopped (its log lacks what comes next; an operator
decides).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from consumer.storage.positions import Position


@dataclass(slots=True)
class Owned:
    """One partition; `position` is the last one known, kept while the partition waits."""

    position: Position | None = None
    is_active: bool = False
    stopped: str | None = None
    missing_at: int | None = None
    """The offset at which Kafka showed a gap once."""
    committed: int | None = None
    """The offset that Kafka is known to hold for the group."""


class Assignment:
    """Owned partitions by number. Changed by the loop alone; problems may be read by any thread."""

    def __init__(self) -> None:
        self._owned: dict[int, Owned] = {}

    def __len__(self) -> int:
        return len(self._owned)

    def add(self, partitions: Iterable[int]) -> None:
        """Own these from now on, waiting."""
        for partition in partitions:
            self._owned[partition] = Owned()

    def remove(self, partitions: Iterable[int]) -> None:
        """Own these no more; one that was not owned is passed by."""
        for partition in partitions:
            self._owned.pop(partition, None)

    def get(self, partition: int) -> Owned | None:
        """Return one owned partition."""
        return self._owned.get(partition)

    @property
    def active(self) -> dict[int, Position]:
        """The positions of the partitions whose records flow."""
        return {p: owned.position for p, owned in self._active() if owned.position}

    @property
    def known(self) -> dict[int, Position]:
        """The last known positions, of waiting and stopped partitions too."""
        return {p: owned.position for p, owned in self._owned.items() if owned.position}

    @property
    def waiting(self) -> set[int]:
        """The partitions whose position is to be loaded."""
        return {p for p, o in self._owned.items() if not o.is_active and not o.stopped}

    @property
    def stopped(self) -> dict[int, str]:
        """The partitions that wait for an operator, and why."""
        return {p: owned.stopped for p, owned in list(self._owned.items()) if owned.stopped}

    @property
    def uncommitted(self) -> dict[int, int]:
        """The offsets of active partitions that Kafka does not hold yet."""
        return {
            p: owned.position.next_offset
            for p, owned in self._active()
            if owned.position and owned.position.next_offset != owned.committed
        }

    def activate(self, position: Position) -> None:
        """Let records flow from this position on."""
        owned = self._owned[position.partition]
        owned.position, owned.is_active, owned.stopped = position, True, None

    def move(self, positions: Mapping[int, Position]) -> None:
        """Note the positions after a batch."""
        for partition, position in positions.items():
            self._owned[partition].position = position

    def wait(self, partitions: Collection[int]) -> None:
        """Let the positions of these be loaded again."""
        for partition in partitions:
            self._owned[partition].is_active = False

    def stop(self, position: Position, why: str) -> bool:
        """Stop a partition at this position; False if it stood stopped for that reason already."""
        owned = self._owned[position.partition]
        news = owned.stopped != why
        owned.position, owned.is_active, owned.stopped = position, False, why
        return news

    def _active(self) -> list[tuple[int, Owned]]:
        return [(p, owned) for p, owned in self._owned.items() if owned.is_active]
