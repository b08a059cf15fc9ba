"""From samples to ratios: medians with their spread, round by round; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ops.bench.model import Figure, Ratio, Sample, Scenario

Rounds = Sequence[Mapping[str, Sample]]
"""Each round has a sample of every arm, by its name."""

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Result:
    """A ratio as measured; `value` None: no round had clean runs of both sides."""

    ratio: Ratio
    value: float | None
    each: tuple[float, ...]
    """The ratio of each round that counts."""

    @property
    def spread(self) -> float | None:
        """How far the rounds lie apart, as a share of the median."""
        if not self.value:
            return None
        return (max(self.each) - min(self.each)) / self.value

    def meets(self, wanted: float | None) -> bool | None:
        """Tell whether the median reaches a bar; None without a bar."""
        if wanted is None:
            return None
        if self.value is None:
            return False
        return self.value <= wanted if self.ratio.lower_is_better else self.value >= wanted


def results_of(scenario: Scenario, rounds: Rounds) -> list[Result]:
    """Return every ratio of a scenario.

    Both sides of each ratio ran in the same round, one after the other, so that what the machine
    does meanwhile falls on both. A run that is not clean takes its round out of the ratio.
    """
    return [_result(ratio, rounds) for ratio in scenario.ratios]


def control_of(scenario: Scenario, rounds: Rounds) -> Result | None:
    """Return the ratio of an arm to its equal: 1, but for noise."""
    if scenario.control is None:
        return None
    arm, again = scenario.control
    return _result(Ratio(CONTROL, f"{arm.arm} / itself", arm, (again,), None, None), rounds)


def figures_of(arm: str, rounds: Rounds) -> dict[str, float]:
    """Return the medians of all figures of an arm, over its clean runs."""
    clean = [found[arm] for found in rounds if arm in found and found[arm].counts]
    names = dict.fromkeys(name for sample in clean for name in sample.figures)
    return {
        name: median(sample.figures[name] for sample in clean if name in sample.figures)
        for name in names
    }


def _result(ratio: Ratio, rounds: Rounds) -> Result:
    each = tuple(value for found in rounds if (value := _divide(ratio, found)) is not None)
    return Result(ratio, median(each) if each else None, each)


def _divide(ratio: Ratio, found: Mapping[str, Sample]) -> float | None:
    over = _read(ratio.over, found)
    under = [_read(figure, found) for figure in ratio.under]
    known = [value for value in under if value]
    if over is None or len(known) < len(under) or not known:
        return None
    return over / (min(known) if ratio.lower_is_better else max(known))


def _read(figure: Figure, found: Mapping[str, Sample]) -> float | None:
    sample = found.get(figure.arm)
    if sample is None or not sample.counts:
        return None
    return sample.figures.get(figure.name)
