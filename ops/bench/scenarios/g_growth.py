"""g: with much stored already against an empty database: rate, and p99 at a fixed rate."""

from collections.abc import Callable

from ops.bench.bed import TEMPLATE, Bed
from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Sample, Scale, Scenario
from ops.bench.stored import grown
from ops.bench.stream import pace
from ops.bench.traffic import uniform
from ops.bench.verdict import Extent

RATE = 1_000.0


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    traffic = uniform(scale.events, "g")

    def drained(template: Callable[[Bed], str]) -> Callable[[Bed], Sample]:
        return lambda bed: drain(bed, traffic, template=template(bed), extent=Extent.OWN)

    def at_rate(template: Callable[[Bed], str]) -> Callable[[Bed], Sample]:
        return lambda bed: pace(bed, "g-paced", RATE, scale.pace_seconds, template=template(bed))

    def stored(bed: Bed) -> str:
        return bed.keep(f"stored {scale.stored}", lambda: grown(bed, scale.stored))

    def empty(_bed: Bed) -> str:
        return TEMPLATE

    return Scenario(
        "g",
        f"growth: {scale.stored:,} events of {scale.stored // 5:,} customers are stored",
        (
            Arm("empty", drained(empty)),
            Arm("stored", drained(stored)),
            Arm("empty at 1,000/s", at_rate(empty)),
            Arm("stored at 1,000/s", at_rate(stored)),
            Arm("empty again", drained(empty)),
        ),
        (
            Ratio("g", "stored / empty", Figure("stored"), (Figure("empty"),), 0.8, 0.95),
            Ratio(
                "g-p99",
                "p99 at 1,000/s: stored / empty",
                Figure("stored at 1,000/s", "p99"),
                (Figure("empty at 1,000/s", "p99"),),
                None,
                None,
                lower_is_better=True,
            ),
        ),
        control=(Figure("empty"), Figure("empty again")),
    )
