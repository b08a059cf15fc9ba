"""b: hookline against the loop that tutorials teach, one event and one transaction at a time."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.peer import drain_by_peer, own_peer
from ops.bench.traffic import uniform


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    many = uniform(scale.events, "b")
    few = uniform(scale.peer_events, "b")
    return Scenario(
        "b",
        "hookline against one event per transaction",
        (
            Arm("hookline", partial(drain, traffic=many)),
            Arm("tutorial loop", partial(drain_by_peer, traffic=few, command=own_peer("loop"))),
            Arm("hookline again", partial(drain, traffic=many)),
        ),
        (
            Ratio(
                "b",
                "hookline / one event per transaction",
                Figure("hookline"),
                (Figure("tutorial loop"),),
                40,
                100,
            ),
        ),
        control=(Figure("hookline"), Figure("hookline again")),
    )
