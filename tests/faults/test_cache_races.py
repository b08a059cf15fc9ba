"""Readers and writers race for cache entries on real servers, and nothing old is left behind."""

import asyncio
from random import Random
from typing import Any

import uvloop

from consumer.gatekeeper.cache import Lease, RedisCache
from schemas.entitlement import Entitlement
from schemas.labels import RedisOperation
from schemas.redis_keys import entitlement_key
from support.cache_races import CUSTOMERS, GROUPS, Seen, racing
from support.proving import Proof, examples

RACES = examples(1_000_000, 20_000)


def run_races(
    urls: tuple[str, str], random: Random, races: int, proof: Any, make_cache: Any = RedisCache
) -> Seen:
    """Run so many races, and return what they came to."""

    async def run() -> Seen:
        async with racing(*urls, random, make_cache) as (groups, seen):
            rounds = range(-(-races // (CUSTOMERS * GROUPS)))
            for _ in proof.track(rounds, len(rounds)):
                async with asyncio.TaskGroup() as together:
                    for group in groups:
                        together.create_task(group.race())
            return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def test_races_leave_nothing_old(database_url: str, redis_url: str, proof: Proof) -> None:
    """Whatever order of miss, commit, store, drop, flush and death: what is left is right."""
    seen = run_races((database_url, redis_url), proof.random, RACES, proof)
    proof.count(
        races=seen.races,
        reads=seen.reads,
        flushes=seen.flushes,
        dead_writers=seen.dead_writers,
        dead_readers=seen.dead_readers,
        not_stored_for_want_of_the_lease=seen.refused,
        left_in_the_cache=seen.stored,
    )
    assert seen.stale == 0
    assert seen.stored
    assert seen.dead_writers
    assert seen.dead_readers
    assert seen.refused


class StoringAnyway(RedisCache):
    """Stores what was read whether its lease still stands or not, as most caches do."""

    async def fill(self, lease: Lease, answer: Entitlement, _seconds: float) -> None:
        """Store."""
        key = entitlement_key(lease.generation, lease.customer)
        await self._line.ask(
            RedisOperation.FILL, lambda link: link.call("SET", key, answer.encode(), "EX", 60)
        )


def test_the_races_find_a_cache_that_is_broken(
    database_url: str, redis_url: str, proof: Proof
) -> None:
    """A cache without the lease's last word leaves old answers behind, so the races are real."""
    seen = run_races((database_url, redis_url), proof.random, 2_000, proof, StoringAnyway)
    assert seen.stale > 0
