"""c: hookline against Python's Kafka frameworks, with the same handler: one event, and batches."""

from functools import partial

from ops.bench.drain import drain
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.peer import drain_by_peer, installed_peer, is_installed
from ops.bench.traffic import uniform

FRAMEWORKS = {
    "FastStream": ("faststream", "faststream_app"),
    "Quix Streams": ("quixstreams", "quix_app"),
    "arroyo": ("arroyo", "arroyo_app"),
}
BATCHED = 4
"""So many times more events where a framework takes a batch per transaction."""


def scenario(scale: Scale) -> Scenario:
    """Return the scenario, with those frameworks that are installed."""
    many = uniform(scale.events, "c")
    few, some = uniform(scale.peer_events, "c"), uniform(scale.peer_events * BATCHED, "c")
    present = {name: peer for name, peer in FRAMEWORKS.items() if is_installed(peer[0])}
    single = {
        name: partial(drain_by_peer, traffic=few, command=installed_peer(*peer))
        for name, peer in present.items()
    }
    batched = {
        f"{name}, batches": partial(
            drain_by_peer, traffic=some, command=installed_peer(*peer, "batch")
        )
        for name, peer in present.items()
    }
    return Scenario(
        "c",
        "hookline against Python's Kafka frameworks with the same handler",
        (
            Arm("hookline", partial(drain, traffic=many)),
            *(Arm(name, run) for name, run in (single | batched).items()),
            Arm("hookline again", partial(drain, traffic=many)),
        ),
        (
            Ratio(
                "c",
                "hookline / the best framework, one event per transaction",
                Figure("hookline"),
                tuple(Figure(name) for name in single),
                25,
                60,
            ),
            Ratio(
                "c-batch",
                "hookline / the best framework in its own batch mode",
                Figure("hookline"),
                tuple(Figure(name) for name in batched),
                1.5,
                3,
            ),
        ),
        control=(Figure("hookline"), Figure("hookline again")),
        notes=tuple(
            f"{name} is not installed: `make bench` does that"
            for name in FRAMEWORKS.keys() - present.keys()
        ),
    )
