"""The words of the benchmark: what a scenario is made of, and what one run gives; no I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.bench.bed import Bed


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of an arm measured; times in seconds, rates a second, memory in bytes."""

    figures: Mapping[str, float]
    checked: str
    """What was held against the outcome, in words."""
    problems: Sequence[str] = ()
    """What the check found; with any of them the figures do not count."""
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Tell whether the figures may be used."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing that is measured; `run` starts fresh processes, and blocks until all has ended."""

    name: str
    run: Callable[[Bed], Sample]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of an arm."""

    arm: str
    name: str = "rate"


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure divided by another of the same round; no bar: it is only reported.

    With several figures below the line, each round takes the best of them.
    """

    id: str
    says: str
    over: Figure
    under: tuple[Figure, ...]
    bar: float | None
    aim: float | None
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """A letter of the benchmark: arms that are run in turn, and the ratios between them."""

    id: str
    title: str
    arms: tuple[Arm, ...]
    ratios: tuple[Ratio, ...]
    control: tuple[Figure, Figure] | None = None
    """The same figure of two arms that are the same: what differs between them is noise."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """How much one run does; times in seconds."""

    name: str
    rounds: int
    events: int
    peer_events: int
    """For those that take one event at a time."""
    backlog: int
    stored: int
    """Events that are there already where growth is measured."""
    pace_seconds: float
    """How long events arrive at a fixed rate."""
    load_seconds: float
    """How long a server is loaded."""


FULL = Scale("full", 5, 12_000, 400, 300_000, 1_000_000, 4.0, 3.0)
QUICK = Scale("quick", 1, 4_000, 150, 12_000, 40_000, 2.0, 1.5)
