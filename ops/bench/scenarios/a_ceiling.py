"""a: the whole cycle against its own SQL replayed from memory, PostgreSQL's ceiling."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.peer import replay_sql
from ops.bench.traffic import uniform


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    traffic = uniform(scale.events, "a")
    return Scenario(
        "a",
        "how close the cycle comes to PostgreSQL",
        (
            Arm("hookline", partial(drain, traffic=traffic)),
            Arm("SQL alone", partial(replay_sql, traffic=traffic)),
            Arm("hookline again", partial(drain, traffic=traffic)),
        ),
        (
            Ratio(
                "a",
                "hookline / its SQL replayed from memory",
                Figure("hookline"),
                (Figure("SQL alone"),),
                0.3,
                0.6,
            ),
        ),
        control=(Figure("hookline"), Figure("hookline again")),
        notes=("faster SQL makes this ratio harder: read it together with b",),
    )
