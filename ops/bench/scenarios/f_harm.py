"""f: half repeats, one record in a hundred junk, no Redis, each against clean traffic."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.traffic import poisoned, repeated, uniform
from ops.bench.verdict import WITHOUT_REST
from ops.embedded.ports import HOST

NOWHERE = f"redis://{HOST}:1/0"
"""Nobody listens there, so a connection is refused at once."""


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    clean = uniform(scale.events, "f")
    arms = {
        "clean": partial(drain, traffic=clean),
        "half repeats": partial(drain, traffic=repeated(scale.events, "f")),
        "1 % poison": partial(drain, traffic=poisoned(scale.events, "f")),
        "no Redis": partial(
            drain, traffic=clean, invariants=WITHOUT_REST, HOOKLINE_REDIS_URL=NOWHERE
        ),
        "clean again": partial(drain, traffic=clean),
    }
    under = (Figure("clean"),)
    return Scenario(
        "f",
        "harm: repeats, poison, no Redis",
        tuple(Arm(name, run) for name, run in arms.items()),
        (
            Ratio("f-duplicates", "half repeats / clean", Figure("half repeats"), under, 1.0, 1.3),
            Ratio("f-poison", "1 % poison / clean", Figure("1 % poison"), under, 0.7, 0.9),
            Ratio("f-redis", "no Redis / clean", Figure("no Redis"), under, 0.9, 1.2),
        ),
        control=(Figure("clean"), Figure("clean again")),
    )
