"""Arms in turn, round after round: what the machine does meanwhile falls on all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ops.bench.bed import Bed
from ops.bench.figures import Result, control_of, results_of
from ops.bench.model import Arm, Sample, Scenario
from ops.embedded.errors import EmbeddedError
from ops.invariants.event_log import AwayError

Ran = Callable[[Scenario, Arm, Sample], None]
"""Called after each run."""


@dataclass
class Measured:
    """A scenario with all that its runs measured."""

    scenario: Scenario
    rounds: list[dict[str, Sample]] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """The ratios."""
        return results_of(self.scenario, self.rounds)

    @property
    def control(self) -> Result | None:
        """What noise alone does."""
        return control_of(self.scenario, self.rounds)

    def problems(self) -> list[str]:
        """Return what the checks found, each with the run it was found in."""
        return [
            f"{self.scenario.id}, {arm}, round {number}: {problem}"
            for number, found in enumerate(self.rounds, 1)
            for arm, sample in found.items()
            for problem in sample.problems
        ]


def measure(scenario: Scenario, bed: Bed, rounds: int, ran: Ran) -> Measured:
    """Run every arm of a scenario so many times, A B A B …; blocks.

    A run that fails is a sample with a problem: the others go on, and the ratio says so.
    """
    measured = Measured(scenario)
    for number in range(rounds):
        found: dict[str, Sample] = {}
        measured.rounds.append(found)
        for arm in _in_turn(scenario.arms, number):
            found[arm.name] = sample = _run(arm, bed)
            ran(scenario, arm, sample)
    return measured


def _in_turn(arms: Sequence[Arm], number: int) -> Sequence[Arm]:
    """Begin each round with another arm, so that none is always the one that runs first."""
    first = number % len(arms)
    return [*arms[first:], *arms[:first]]


def _run(arm: Arm, bed: Bed) -> Sample:
    try:
        return arm.run(bed)
    except (EmbeddedError, AwayError) as error:
        return Sample({}, "nothing", [f"did not run: {error}"])
