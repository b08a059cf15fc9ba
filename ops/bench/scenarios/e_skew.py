"""e: customers by Zipf's law, and one customer with half of everything, against uniform ones."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.traffic import one_with_half, uniform, zipf


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    even = partial(drain, traffic=uniform(scale.events, "e"))
    under = (Figure("uniform"),)
    return Scenario(
        "e",
        "skew: many events of few customers",
        (
            Arm("uniform", even),
            Arm("Zipf", partial(drain, traffic=zipf(scale.events, "e"))),
            Arm("one has half", partial(drain, traffic=one_with_half(scale.events, "e"))),
            Arm("uniform again", even),
        ),
        (
            Ratio("e-zipf", "Zipf customers / uniform", Figure("Zipf"), under, 0.8, 0.95),
            Ratio("e-one", "one has half / uniform", Figure("one has half"), under, 0.8, 0.95),
        ),
        control=(Figure("uniform"), Figure("uniform again")),
    )
