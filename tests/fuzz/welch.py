"""Does the time of one class differ from another's? dudect's question, by Welch's t.

Slow samples say more of the machine than of the code, so the test is repeated on the fastest part
of the samples, cropped at many percentiles, and the greatest |t| counts.
https://eprint.iacr.org/2016/1123 (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?")
"""

import math
from dataclasses import dataclass

CROPS = 50
LEAST = 1_000
"""Fewer samples than this in a class are too few for the normal approximation."""


@dataclass
class Moments:
    """Count, sum and sum of squares of one class so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take one sample in."""
        self.count += 1
        self.total += value
        self.squares += value * value

    @property
    def mean(self) -> float:
        """The mean."""
        return self.total / self.count

    @property
    def error(self) -> float:
        """The squared standard error of the mean."""
        return max(0.0, self.squares / self.count - self.mean**2) / (self.count - 1)


@dataclass(frozen=True)
class Difference:
    """The crop that tells the classes apart best: t, and the difference of the means there."""

    t: float
    nanoseconds: float


def tell_apart(samples: list[tuple[int, bool]]) -> Difference:
    """Return the greatest |t| over all crops of (nanoseconds, class) samples."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    crops = {int(last * (1 - 0.5 ** (10 * crop / CROPS))) for crop in range(1, CROPS)}
    classes = {True: Moments(), False: Moments()}
    middle = ordered[len(ordered) // 2][0]
    found = Difference(0.0, 0.0)
    is_due = False
    for place, (nanoseconds, which) in enumerate(ordered):
        # Moments about the median: squares of plain nanoseconds would lose their low digits.
        classes[which].add(nanoseconds - middle)
        is_due = is_due or place in crops
        # Equal times stay together: a crop between them would cut one class and not the other.
        if place == last or (is_due and nanoseconds != ordered[place + 1][0]):
            found = max(found, _difference(classes), key=lambda each: each.t)
            is_due = False
    return found


def _difference(classes: dict[bool, Moments]) -> Difference:
    one, other = classes.values()
    if min(one.count, other.count) < LEAST:
        return Difference(0.0, 0.0)
    gap, error = one.mean - other.mean, math.sqrt(one.error + other.error)
    return Difference(abs(gap) / error if error else 0.0, gap)
