"""The simulated world that properties are shown on, seeded by the run and per test."""

from ops.simulator.catalogue import PLANS as SOLD
from ops.simulator.catalogue import TIERS
from ops.simulator.history import World
from ops.simulator.life import Pace
from schemas.plans import Plans
from support.proving import SEED

END = 1_795_000_000
PLANS = Plans(
    default=TIERS[0],
    tiers=TIERS,
    # By price: what an invoice of basil's shape names when no snapshot is known.
    prices={plan.price: plan.tier for plan in SOLD},
    lookup_keys={},
    products={},
)


def world(seed: str, pace: Pace) -> World:
    """Return the world of one test."""
    return World(f"{SEED}:{seed}", END, pace=pace)


def bodies(customers: int) -> list[bytes]:
    """Return the events of so many customers as they are signed."""
    crowded = world("bodies", Pace(loops=True))
    return [event.body for history in crowded.histories(customers) for event in history.events]
