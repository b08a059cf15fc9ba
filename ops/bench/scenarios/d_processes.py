"""d: two consumers against one, on cores that they share with everything else: no bar."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.traffic import uniform

SHARED = (
    "two consumers share the database, the broker and Redis; no lock, queue, file or memory",
    "a customer is in one partition: they meet at a row only when a partition changes hands",
)


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    traffic = uniform(scale.events * 2, "d")
    return Scenario(
        "d",
        "two processes against one",
        (
            Arm("one", partial(drain, traffic=traffic)),
            Arm("two", partial(drain, traffic=traffic, consumers=2)),
            Arm("one again", partial(drain, traffic=traffic)),
        ),
        (
            Ratio(
                "d",
                "two processes / one, on shared cores",
                Figure("two"),
                (Figure("one"),),
                None,
                None,
            ),
        ),
        control=(Figure("one"), Figure("one again")),
        notes=SHARED,
    )
