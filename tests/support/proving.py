"""How much a run looks at, and from which seed: few and always the same, unless it is a long one.

`make test` is deterministic. The long runs (`make prove`, `make faults`, `make simulate-faults`)
take the full numbers and draw a new seed each time; HOOKLINE_SEED replays one.
"""

import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import hypothesis
from hypothesis import HealthCheck
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., Any])

TARGET = os.environ.get("HOOKLINE_LONG_RUN", "")
"""The make target of a long run; empty in `make test`."""

PROVING = bool(TARGET)
SEED = (os.environ.get("HOOKLINE_SEED") or secrets.token_hex(4)) if PROVING else "hookline"


def examples(full: T, few: T) -> T:
    """Return the number of examples of this run, or the examples."""
    return full if PROVING else few


def draw(name: str) -> Random:
    """Return a chance of its own for each name: a replay needs the seed, not the same selection."""
    return Random(f"{SEED}:{name}")  # noqa: S311 - the same draws for the same seed


def search(full: int, few: int) -> Callable[[Test], Test]:
    """Let hypothesis look at so many examples, from the run's seed and from nothing stored."""

    def apply(test: Test) -> Test:
        number = draw(test.__name__).getrandbits(64)
        settings = hypothesis.settings(
            max_examples=examples(full, few),
            deadline=None,
            database=None,
            # A proof counts over all examples on purpose.
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        return hypothesis.seed(number)(settings(test))

    return apply


@dataclass
class Proof:
    """What one test looks at: its own chance, a bar while it runs, counts for the summary."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    bar: Progress | None = None

    @property
    def random(self) -> Random:
        """A new chance that begins where this test's always begins."""
        return draw(self.name)

    def count(self, **seen: int) -> None:
        """Add to what the summary says was looked at."""
        self.counts.update(seen)

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Add the seconds that this takes to the summary of a long run, rounded up."""
        began = time.monotonic()
        yield
        if PROVING:
            self.counts[f"seconds of {what}"] += math.ceil(time.monotonic() - began)

    def track(self, items: Iterable[T], total: int) -> Iterator[T]:
        """Yield items, and show how far they are, where anybody watches."""
        if not PROVING:
            yield from items
            return
        if self.bar is None:
            self.bar = Progress(
                TextColumn("{task.description:<40.40}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self.bar.start()
        yield from self.bar.track(items, total, description=self.name)

    def close(self) -> None:
        """Take the bar away, whether the test held or not."""
        if self.bar is not None:
            self.bar.stop()
