"""From samples to ratios: what counts, and what the median and the spread are."""

import pytest

from ops.bench.figures import Result, control_of, figures_of, results_of
from ops.bench.measure import measure
from ops.bench.model import Arm, Figure, Ratio, Sample, Scenario
from ops.bench.stream import taken

RATIO = Ratio("x", "a / b", Figure("a"), (Figure("b"),), 2.0, 3.0)
LOWER = Ratio("y", "a / b", Figure("a"), (Figure("b"),), 2.0, 1.0, lower_is_better=True)


def sample(rate: float, *problems: str) -> Sample:
    """Return a run's sample."""
    return Sample({"rate": rate}, "everything", problems)


def scenario(*ratios: Ratio, control: tuple[Figure, Figure] | None = None) -> Scenario:
    """Return a scenario of two arms."""
    arms = (Arm("a", lambda _bed: sample(1)), Arm("b", lambda _bed: sample(1)))
    return Scenario("x", "test", arms, ratios, control)


def ratio_of(*rounds: tuple[Sample, Sample], ratio: Ratio = RATIO) -> Result:
    """Return the ratio of rounds of a and b."""
    return results_of(scenario(ratio), [{"a": a, "b": b} for a, b in rounds])[0]


def test_a_ratio_is_the_median_of_its_rounds() -> None:
    """Each round is divided by itself, so that a slow minute falls on both sides."""
    found = ratio_of((sample(30), sample(10)), (sample(4), sample(2)), (sample(400), sample(100)))
    assert found.each == (3.0, 2.0, 4.0)
    assert found.value == 3.0
    assert found.spread == pytest.approx(2 / 3)


def test_a_run_that_is_not_clean_takes_its_round_out() -> None:
    """Neither its own figure nor its partner's of that round is used."""
    assert ratio_of((sample(9, "lost"), sample(1)), (sample(4), sample(2))).each == (2.0,)
    assert ratio_of((sample(9), sample(1, "lost")), (sample(4), sample(2))).each == (2.0,)


def test_without_a_clean_round_there_is_no_ratio() -> None:
    """It misses every bar, also one that lower is better for."""
    for ratio in (RATIO, LOWER):
        found = ratio_of((sample(1), sample(9, "lost")), ratio=ratio)
        assert (found.value, found.spread, found.meets(2.0)) == (None, None, False)


@pytest.mark.parametrize(
    ("ratio", "rate", "reached"),
    [(RATIO, 2, True), (RATIO, 1, False), (LOWER, 2, True), (LOWER, 3, False)],
)
def test_a_bar_has_a_side(*, ratio: Ratio, rate: float, reached: bool) -> None:
    """Some ratios are to be high, some low; the bar itself is enough."""
    assert ratio_of((sample(rate), sample(1)), ratio=ratio).meets(ratio.bar) is reached


@pytest.mark.parametrize(("lower", "value"), [(False, 2.0), (True, 10.0)])
def test_the_best_of_several_is_divided_by(*, lower: bool, value: float) -> None:
    """The fastest of those compared with, or the one that waited least."""
    ratio = Ratio(
        "x", "a / best", Figure("a"), (Figure("b"), Figure("c")), 1, 1, lower_is_better=lower
    )
    rounds = [{"a": sample(10), "b": sample(1), "c": sample(5)}]
    assert results_of(scenario(ratio), rounds)[0].value == value


def test_one_of_several_missing_voids_the_round() -> None:
    """The best of those that ran may not be the best."""
    ratio = Ratio("x", "a / best", Figure("a"), (Figure("b"), Figure("c")), 1, 1)
    rounds = [{"a": sample(10), "b": sample(1), "c": sample(5, "lost")}]
    assert results_of(scenario(ratio), rounds)[0].value is None


def test_the_control_divides_the_first_arm_by_its_equal() -> None:
    """What it differs from one by is noise."""
    rounds = [{"a": sample(10), "b": sample(8)}, {"a": sample(9), "b": sample(9)}]
    found = control_of(scenario(RATIO, control=(Figure("a"), Figure("b"))), rounds)
    assert found is not None
    assert found.each == (1.25, 1.0)


def test_figures_are_medians_of_clean_runs() -> None:
    """A run that does not count moves no median."""
    rounds = [{"a": sample(1)}, {"a": sample(3)}, {"a": sample(99, "lost")}, {"a": sample(5)}]
    assert figures_of("a", rounds) == {"rate": 3}


def test_each_round_begins_with_another_arm() -> None:
    """No arm is always the one that runs first, on servers that have just come to rest."""
    order: list[str] = []
    measured = measure(scenario(RATIO), None, 3, lambda _s, arm, _x: order.append(arm.name))  # type: ignore[arg-type]
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert len(measured.rounds) == 3


def test_what_was_taken_is_what_was_applied_while_records_came() -> None:
    """Of ten a second for three seconds: what is applied later, or in the first, is left out."""
    assert taken([0.05] * 30, 10.0, 1.0) == 10.0
    assert taken([1.55] * 30, 10.0, 1.0) == 7.5
    assert taken([0.1 * number for number in range(30)], 10.0, 1.0) == 5.0
    assert taken([9.0] * 30, 10.0, 1.0) == 0.0
