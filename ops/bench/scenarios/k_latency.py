"""k: how long from receipt to commit, at shares of the rate that is the most."""

from collections.abc import Callable

from ops.bench.bed import Bed
from ops.bench.model import Arm, Figure, Ratio, Sample, Scale, Scenario
from ops.bench.peer import drain_by_peer, own_peer
from ops.bench.stream import keep_up, pace
from ops.bench.traffic import uniform

SHARES = {"5 %": 0.05, "30 %": 0.3, "70 %": 0.7}
COMMON_RATE = 3_000.0
PEER_SHARE = 0.3


def scenario(scale: Scale) -> Scenario:
    """Return the scenario; the most that each can take is measured in each round anew."""
    most = Most()
    loop = own_peer("loop")
    many, few = uniform(scale.events, "k"), uniform(scale.peer_events, "k")

    def paced(bed: Bed, rate: float, peer: list[str] | None = None) -> Sample:
        return pace(bed, "k", rate, scale.pace_seconds, peer=peer)

    def at(share: float) -> Callable[[Bed], Sample]:
        return lambda bed: paced(bed, most.rates["hookline"] * share)

    def overrun(bed: Bed) -> Sample:
        return paced(bed, most.rates["in one go"])

    return Scenario(
        "k",
        "from receipt to commit",
        (
            Arm("in one go", most.note("in one go", lambda bed: keep_up(bed, many))),
            Arm("most", most.note("hookline", overrun, "taken")),
            Arm("most of the loop", most.note("loop", lambda bed: drain_by_peer(bed, few, loop))),
            *(Arm(f"at {name}", at(share)) for name, share in SHARES.items()),
            Arm("at 3,000/s", lambda bed: paced(bed, COMMON_RATE)),
            Arm("loop at 30 %", lambda bed: paced(bed, most.rates["loop"] * PEER_SHARE, loop)),
            Arm("at 70 % again", at(SHARES["70 %"])),
        ),
        (
            Ratio(
                "k",
                "p99 at 70 % of the most / at 5 %",
                Figure("at 70 %", "p99"),
                (Figure("at 5 %", "p99"),),
                4,
                2,
                lower_is_better=True,
            ),
            Ratio(
                "k-p50",
                "p50 at 3,000/s / one event per transaction at 30 % of its own most",
                Figure("at 3,000/s", "p50"),
                (Figure("loop at 30 %", "p50"),),
                2,
                1,
                lower_is_better=True,
            ),
        ),
        control=(Figure("at 70 %", "p99"), Figure("at 70 % again", "p99")),
        notes=("the most: what is applied of records that come one by one, too many to keep up",),
    )


class Most:
    """The rates that were the most when last measured."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}

    def note(
        self, name: str, run: Callable[[Bed], Sample], figure: str = "rate"
    ) -> Callable[[Bed], Sample]:
        """Return the run, which notes one of its figures when it has ended."""

        def noting(bed: Bed) -> Sample:
            sample = run(bed)
            self.rates[name] = sample.figures[figure]
            return sample

        return noting
