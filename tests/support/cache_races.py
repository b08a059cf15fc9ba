"""Races around cache entries on real servers, tens of thousands side by side.

Each customer of a round is a race of its own: readers who miss, two commits in order, their drops,
a writer who dies in between, a sweeper, a flush, a reader who dies with its lease. Chance says how
long each waits before it goes on. The readers are the real ones, over a connection each group
shares. Only what is not raced is done for many at once: one SELECT reads for all who wait at that
moment, and one transaction commits for many customers, as a consumer's does. What nobody is to drop
any more is judged: a drop at the end of all would hide what was stored too late.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, cast

import psycopg
from prometheus_client import CollectorRegistry
from redis.client import Pipeline

from consumer.gatekeeper.cache import Cache, RedisCache
from consumer.gatekeeper.line import UNKNOWN, Line
from consumer.gatekeeper.link import Link, open_link
from consumer.gatekeeper.primary import Fresh
from consumer.gatekeeper.reader import Reader
from consumer.storage.invalidation import drop_entries
from schemas.entitlement import Entitlement
from schemas.labels import LeaseOutcome, RedisOperation
from schemas.metrics import ReaderMetrics
from schemas.plans import Plans
from schemas.redis_keys import entitlement_key

PLANS = Plans(default="starter", tiers=("starter",), prices={}, lookup_keys={}, products={})
GROUPS = 4
CUSTOMERS = 250
"""Of each group: so many races a round."""

READERS = 2
PAUSE_SECONDS = 0.1
"""How long anybody waits at most before going on: about as long as a round's work takes."""

REDIS_SECONDS = 30.0

_READ = """
SELECT now(), customer_id, version FROM customers WHERE customer_id = ANY(%s)
"""
_COMMIT = "UPDATE customers SET version = version + 1 WHERE customer_id = ANY(%s)"
_ROW = "INSERT INTO cache_invalidations (customers) VALUES (%s) RETURNING invalidation_id"
_CONFIRM = "DELETE FROM cache_invalidations WHERE invalidation_id = %s"
_SWEEP = "DELETE FROM cache_invalidations WHERE customers <@ %s RETURNING customers"


@dataclass(slots=True)
class Seen:
    """What races came to."""

    races: int = 0
    reads: int = 0
    flushes: int = 0
    dead_writers: int = 0
    dead_readers: int = 0
    refused: int = 0
    """Answers not stored because their lease was gone."""
    stored: int = 0
    stale: int = 0


class Noted:
    """A pipeline that keeps which keys it was to delete."""

    keys: tuple[str, ...] = ()

    def unlink(self, *keys: str) -> None:
        """Keep them."""
        self.keys = keys


class ReadingTogether:
    """A primary that reads, in one statement, for all who ask at the same moment."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]", pause: Any) -> None:
        self._connection = connection
        self._pause = pause
        self._asked: dict[str, list[asyncio.Future[Fresh]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def by_customer(self, customer: str) -> Fresh:
        """Read a customer, wait a little, and answer what was read."""
        future: asyncio.Future[Fresh] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(customer, []).append(future)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        fresh = await future
        await self._pause()
        return fresh

    async def by_reference(self, reference: str) -> Entitlement | None:
        """Have no references."""
        raise NotImplementedError(reference)

    async def _read(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            cursor = await self._connection.execute(_READ, [list(asked)])
            for now, customer, version in await cursor.fetchall():
                answer = answer_of(customer, version)
                for future in asked[customer]:
                    if not future.done():
                        future.set_result(Fresh(answer, now, None, 0.0))


def answer_of(customer: str, version: int) -> Entitlement:
    """Return the answer of a customer at a version."""
    return Entitlement(customer, "starter", True, "active", None, None, version)  # noqa: FBT003


class Group:
    """So many customers, their readers and their writers, over connections of their own."""

    def __init__(
        self,
        name: str,
        line: Line,
        cache: Cache,
        connections: Sequence["psycopg.AsyncConnection[Any]"],
        *,
        random: Random,
        seen: Seen,
    ) -> None:
        self.customers = [f"cus_{name}x{n}" for n in range(CUSTOMERS)]
        self._line = line
        self._random = random
        self._seen = seen
        reading, self._writing, self._sweeping = connections
        primary = ReadingTogether(reading, self._pause)
        self._reader = Reader(cache, primary, PLANS, monotonic=lambda: 0.0)

    async def set_up(self) -> None:
        """Store the customers."""
        statement = "INSERT INTO customers (customer_id) SELECT unnest(%s::text[])"
        await self._writing.execute(statement, [self.customers])

    async def race(self) -> None:
        """Run a round, and count what is old once everybody is done."""
        await self._drop(self.customers)
        async with asyncio.TaskGroup() as group:
            for customer in self.customers:
                for _ in range(READERS):
                    group.create_task(self._read(customer))
            group.create_task(self._write())
            group.create_task(self._sweep_later())
            if self._random.random() < 0.1:
                group.create_task(self._flush())
        await self._sweep()
        await self._judge()

    async def _read(self, customer: str) -> None:
        await self._pause()
        self._seen.reads += 1
        if self._random.random() > 0.01:
            await self._reader.by_customer(customer)
            return
        self._seen.dead_readers += 1
        asking = asyncio.create_task(self._reader.by_customer(customer))
        await self._pause()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def _write(self) -> None:
        """Commit twice, for a part of the customers each; every drop follows when it may."""
        async with asyncio.TaskGroup() as drops:
            for _ in range(2):
                await self._pause()
                changed = self._random.sample(self.customers, CUSTOMERS // 2)
                async with self._writing.transaction():
                    await self._writing.execute(_COMMIT, [changed])
                    cursor = await self._writing.execute(_ROW, [changed])
                    row = (await cursor.fetchall())[0][0]
                if self._random.random() < 0.3:
                    self._seen.dead_writers += 1
                else:
                    drops.create_task(self._drop_and_confirm(changed, row))

    async def _drop_and_confirm(self, customers: list[str], row: int) -> None:
        await self._pause()
        await self._drop(customers)
        await self._sweeping.execute(_CONFIRM, [row])

    async def _sweep_later(self) -> None:
        await self._pause()
        await self._sweep()

    async def _sweep(self) -> None:
        """Drop what stands in rows: their writers have died, or are on their way still."""
        cursor = await self._sweeping.execute(_SWEEP, [self.customers])
        for (customers,) in await cursor.fetchall():
            await self._drop(customers)

    async def _flush(self) -> None:
        await self._pause()
        self._seen.flushes += 1
        await self._ask(lambda link: link.call("FLUSHDB"))

    async def _drop(self, customers: Sequence[str]) -> None:
        """Drop as a consumer does."""

        async def call(link: Link) -> Any:
            noted = Noted()
            drop_entries(cast("Pipeline", noted), link.generation, customers)
            return await link.call("UNLINK", *noted.keys)

        await self._ask(call)

    async def _judge(self) -> None:
        cursor = await self._sweeping.execute(_READ, [self.customers])
        right = {customer: version for _, customer, version in await cursor.fetchall()}
        values = await self._ask(
            lambda link: link.call(
                "MGET", *(entitlement_key(link.generation, name) for name in self.customers)
            )
        )
        for customer, value in zip(self.customers, values, strict=True):
            self._seen.races += 1
            if value is not None:
                self._seen.stored += 1
                self._seen.stale += Entitlement.decode(value).version != right[customer]

    async def _ask(self, call: Callable[[Link], Awaitable[Any]]) -> Any:
        answer = await self._line.ask(RedisOperation.SWEEP, call)
        assert answer is not UNKNOWN, "Redis does not answer"
        return answer

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.random() * PAUSE_SECONDS)


@asynccontextmanager
async def racing(
    database_url: str, redis_url: str, random: Random, make_cache: Any = RedisCache
) -> AsyncIterator[tuple[list[Group], Seen]]:
    """Provide groups that race over the same servers, and what they have seen."""
    seen = Seen()
    registry = CollectorRegistry()
    metrics = ReaderMetrics(registry)
    lines = [
        Line(partial(open_link, redis_url), metrics.redis, call_seconds=REDIS_SECONDS)
        for _ in range(GROUPS)
    ]
    connect = partial(psycopg.AsyncConnection.connect, database_url, autocommit=True)
    connections = [[await connect() for _ in range(3)] for _ in lines]
    groups = [
        Group(
            str(number),
            line,
            make_cache(line, metrics.cache),
            connections[number],
            random=random,
            seen=seen,
        )
        for number, line in enumerate(lines)
    ]
    try:
        for line, group in zip(lines, groups, strict=True):
            await line.greet()
            await group.set_up()
        yield groups, seen
        name = "hookline_gatekeeper_cache_leases_total"
        seen.refused = int(registry.get_sample_value(name, {"outcome": LeaseOutcome.LOST}) or 0)
    finally:
        for line, some in zip(lines, connections, strict=True):
            await line.close()
            for connection in some:
                await connection.close()
