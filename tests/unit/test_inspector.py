"""One hit in a thousand is looked at again: what is wrong in the cache is counted, nothing else."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from consumer.gatekeeper.cache import ABSENT, NOT_KNOWN, Lease, Nothing
from consumer.gatekeeper.inspector import AT_ONCE, LATER_SECONDS, SETTLE_SECONDS, Inspector
from consumer.gatekeeper.primary import Fresh, Unreadable
from schemas.entitlement import Entitlement
from schemas.metrics import CacheMetrics

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HIT = Entitlement("cus_1", "pro", True, "active", None, None, 7, "cache")  # noqa: FBT003
CHANGED = replace(HIT, tier="enterprise", version=8, source="database")


@dataclass
class World:
    """What PostgreSQL says and Redis holds, and how much time goes by."""

    answer: Entitlement = CHANGED
    changed_at: datetime | None = NOW - timedelta(seconds=5)
    entry: Entitlement | Nothing = HIT
    is_away: bool = False
    waited: list[float] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    chance: float = 0.0

    def __post_init__(self) -> None:
        """Make the inspector."""
        self.inspector = Inspector(
            self,
            self,
            CacheMetrics(self.registry),
            chance=lambda: self.chance,
            sleep=self.sleep,
            monotonic=lambda: sum(self.waited),
        )

    async def sleep(self, seconds: float) -> None:
        """Let time go by, and others have their turn."""
        self.waited.append(seconds)
        await asyncio.sleep(0)

    async def by_customer(self, customer: str) -> Fresh:
        """Answer as PostgreSQL, or be away."""
        assert customer == HIT.customer
        if self.is_away:
            raise Unreadable("PostgreSQL does not answer in time")
        return Fresh(self.answer, NOW, self.changed_at, sum(self.waited))

    async def by_reference(self, reference: str) -> Entitlement | None:
        """Have no references."""
        raise NotImplementedError(reference)

    async def get(self, customer: str) -> Entitlement | Nothing:
        """Answer as Redis."""
        assert customer == HIT.customer
        return self.entry

    async def take_lease(self, customer: str) -> Lease | None:
        """Never be asked: an inspector stores nothing."""
        raise NotImplementedError(customer)

    async def fill(self, lease: Lease, answer: Entitlement, seconds: float) -> None:
        """Never be asked: an inspector stores nothing."""
        raise NotImplementedError(lease, answer, seconds)

    def counted(self, name: str) -> float:
        """Return what was counted."""
        found = self.registry.get_sample_value(f"hookline_gatekeeper_cache_{name}")
        assert found is not None
        return found


async def all_done() -> None:
    """Wait until every inspection has ended and is forgotten."""
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    await asyncio.sleep(0)


CASES = {
    "still stored": (World(), 1, 4.0),
    "dropped by now": (World(entry=ABSENT), 0, 4.0),
    "stored anew": (World(entry=replace(CHANGED, source="cache")), 0, 4.0),
    "Redis does not say": (World(entry=NOT_KNOWN), 0, 4.0),
    "right": (World(answer=replace(HIT, source="database")), 0, 0.0),
    "changed after it was served": (World(changed_at=NOW - timedelta(seconds=0.4)), 1, 0.0),
    "a customer who is gone": (World(changed_at=None), 1, 0.0),
}
"""What there is, how many differences are counted, and how old the change was."""


@pytest.mark.parametrize("what", CASES)
def test_a_difference_counts_while_it_is_stored(what: str) -> None:
    """A hit that PostgreSQL contradicts is an error only if Redis still has it a moment later."""
    world, differences, staleness = CASES[what]
    asyncio.run(world.inspector.inspect(HIT))
    assert world.counted("inspected_total") == 1
    assert world.counted("differences_total") == differences
    assert world.counted("staleness_seconds_sum") == pytest.approx(staleness)
    settles = [] if what == "right" else [SETTLE_SECONDS]
    assert world.waited == [LATER_SECONDS, *settles]


def test_postgresql_away_says_nothing() -> None:
    """What cannot be compared is neither inspected nor wrong, and raises nothing."""
    world = World(is_away=True)
    asyncio.run(world.inspector.inspect(HIT))
    assert (world.counted("inspected_total"), world.counted("differences_total")) == (0, 0)


def test_a_hit_that_has_ended_meanwhile_says_nothing() -> None:
    """The end of a grace period between hit and comparison is no difference."""
    world = World()
    asyncio.run(world.inspector.inspect(replace(HIT, valid_until=NOW)))
    assert (world.counted("inspected_total"), world.counted("differences_total")) == (0, 0)


def test_sixteen_are_inspected_at_a_time() -> None:
    """More hits than that are let go, until one is done."""

    async def run() -> World:
        world = World()
        for _ in range(3 * AT_ONCE):
            world.inspector.watch(HIT)
        await all_done()
        assert world.counted("inspected_total") == AT_ONCE
        world.inspector.watch(HIT)
        await all_done()
        return world

    assert asyncio.run(run()).counted("inspected_total") == AT_ONCE + 1


@pytest.mark.parametrize(("chance", "inspected"), [(0.0009, 1), (0.001, 0), (0.5, 0)])
def test_one_hit_in_a_thousand_is_inspected(chance: float, inspected: int) -> None:
    """Chance picks them."""

    async def run() -> World:
        world = World(chance=chance)
        world.inspector.watch(HIT)
        await all_done()
        return world

    assert asyncio.run(run()).counted("inspected_total") == inspected


def test_closing_ends_what_is_being_inspected() -> None:
    """No task is left behind, and what was cut short is not counted."""

    async def run() -> World:
        world = World()
        world.inspector.watch(HIT)
        await asyncio.sleep(0)
        await world.inspector.close()
        await world.inspector.close()
        assert len(asyncio.all_tasks()) == 1
        return world

    assert asyncio.run(run()).counted("inspected_total") == 0
