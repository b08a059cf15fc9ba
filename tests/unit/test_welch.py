"""The harness of the timing test: it sees a difference, and sees none where there is none."""

from random import Random

import pytest

from fuzz.welch import tell_apart


@pytest.mark.parametrize("tick", [1, 40])
@pytest.mark.parametrize(("gap", "seen"), [(0, False), (30, True)])
def test_a_difference_is_seen_through_noise(gap: int, seen: bool, tick: int) -> None:  # noqa: FBT001
    """30 ns among 20,000 samples, some of them delayed, and not 0 ns; on a coarse clock too."""
    random = Random("welch")  # noqa: S311 - noise
    samples = []
    for _ in range(20_000):
        which = random.random() < 0.5
        delay = 100_000 if random.random() < 0.05 else 0
        took = int(random.gauss(10_000, 300)) + delay + gap * which
        samples.append((took // tick * tick, which))
    found = tell_apart(samples)
    assert (found.t > 4.5) == seen
    assert not seen or found.nanoseconds == pytest.approx(gap, abs=15)
