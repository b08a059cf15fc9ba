"""h: a long backlog against a steady stream: rate and memory."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.stream import keep_up
from ops.bench.traffic import uniform
from ops.bench.verdict import Extent


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    backlog = uniform(scale.backlog, "h")
    steady = uniform(scale.events, "h-steady")
    under = Figure("steady")
    return Scenario(
        "h",
        f"a backlog of {backlog.deliveries:,} records",
        (
            Arm("steady", partial(keep_up, traffic=steady)),
            Arm("backlog", partial(drain, traffic=backlog, extent=Extent.SAMPLE, memory=True)),
            Arm("steady again", partial(keep_up, traffic=steady)),
        ),
        (
            Ratio("h", "backlog drain / steady", Figure("backlog"), (under,), 1.0, 1.2),
            Ratio(
                "h-memory",
                "memory at the end of the backlog / steady",
                Figure("backlog", "memory"),
                (Figure("steady", "memory"),),
                1.5,
                1.1,
                lower_is_better=True,
            ),
        ),
        control=(Figure("steady"), Figure("steady again")),
        notes=(
            "steady: records are written while they are applied, at most 2,000 ahead",
            "the backlog's check looks for every event, and folds 400 customers again",
        ),
    )
