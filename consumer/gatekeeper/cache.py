"""The entitlement cache: lease, fill, and a value only where the lease still stands.

The race that every cache has: a reader misses and reads version 5; a writer commits 6 and drops
the entry; the reader stores 5, and it stays. Here a reader that misses takes a lease, and stores
what it read only if its lease still stands then. A writer drops entry *and* lease after its
COMMIT (consumer/storage/invalidation.py), in one command. So whatever was read before a COMMIT is
stored either before the drop, which takes it away, or not at all. A flush takes leases with it.
The lease lasts three seconds: who reads for longer stores nothing.

Nobody but a reader stores a value: a delayed store by a writer could bring an old one back.
"""

import secrets
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal, Protocol

from consumer.gatekeeper.line import UNKNOWN, Line, Unknown
from consumer.gatekeeper.link import Link
from schemas.entitlement import Entitlement
from schemas.labels import LeaseOutcome, Look, RedisOperation
from schemas.metrics import CacheMetrics
from schemas.redis_keys import (
    ENTITLEMENT_SECONDS,
    LEASE_MILLISECONDS,
    entitlement_key,
    lease_key,
)

FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""
"""Keys: entry, lease. Arguments: the lease's token, the value, how many milliseconds it lives."""


class Missing(Enum):
    """Why there is no cached answer."""

    ABSENT = "absent"
    """None is stored, or none that can be read."""
    UNKNOWN = "unknown"
    """Redis did not say."""


ABSENT: Final = Missing.ABSENT
NOT_KNOWN: Final = Missing.UNKNOWN
Nothing = Literal[Missing.ABSENT, Missing.UNKNOWN]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fill one entry, on the server of this generation."""

    customer: str
    generation: str
    token: str


class Cache(Protocol):
    """What the reader asks of the cache; each answers "don't know" in time, none raises."""

    async def get(self, customer: str) -> Entitlement | Nothing:
        """Return a customer's stored answer."""

    async def take_lease(self, customer: str) -> Lease | None:
        """Take the right to fill an entry; None if somebody has it, or nobody knows."""

    async def fill(self, lease: Lease, answer: Entitlement, seconds: float) -> None:
        """Store an answer for so long, if the lease still stands."""


class RedisCache:
    """The cache in Redis."""

    def __init__(self, line: Line, metrics: CacheMetrics) -> None:
        self._line = line
        self._metrics = metrics

    async def get(self, customer: str) -> Entitlement | Nothing:
        """Return a customer's stored answer."""

        async def call(link: Link) -> bytes | None:
            value: bytes | None = await link.call("GET", entitlement_key(link.generation, customer))
            return value

        value = await self._line.ask(RedisOperation.GET, call)
        if value is UNKNOWN:
            self._metrics.reads.labels(Look.UNKNOWN).inc()
            return NOT_KNOWN
        if value is None:
            self._metrics.reads.labels(Look.MISS).inc()
            return ABSENT
        return self._read(value)

    async def take_lease(self, customer: str) -> Lease | None:
        """Take the right to fill an entry; None if somebody has it, or nobody knows."""
        token = secrets.token_hex(16)

        async def call(link: Link) -> Lease | None:
            generation = link.generation
            key = lease_key(generation, customer)
            won = await link.call("SET", key, token, "NX", "PX", LEASE_MILLISECONDS)
            return Lease(customer, generation, token) if won else None

        lease = await self._line.ask(RedisOperation.LEASE, call)
        if lease is UNKNOWN:
            self._metrics.leases.labels(LeaseOutcome.UNKNOWN).inc()
            return None
        if lease is None:
            self._metrics.leases.labels(LeaseOutcome.HELD).inc()
        return lease

    async def fill(self, lease: Lease, answer: Entitlement, seconds: float) -> None:
        """Store an answer for so long, if the lease still stands.

        On another server than the lease's it stores nothing: a copy of that lease may have come
        there, and what is stored for it would be read once that server is left again.
        """
        milliseconds = int(min(seconds, ENTITLEMENT_SECONDS) * 1000)
        if milliseconds < 1:
            return

        async def call(link: Link) -> bool:
            if link.generation != lease.generation:
                return False
            keys = (
                entitlement_key(lease.generation, lease.customer),
                lease_key(lease.generation, lease.customer),
            )
            stored = await link.call(
                "EVAL", FILL, 2, *keys, lease.token, answer.encode(), milliseconds
            )
            return bool(stored)

        stored = await self._line.ask(RedisOperation.FILL, call)
        self._metrics.leases.labels(_outcome(stored)).inc()

    def _read(self, value: bytes) -> Entitlement | Nothing:
        try:
            found = replace(Entitlement.decode(value), source="cache")
        except ValueError:
            # Of another version of hookline: to be stored anew.
            self._metrics.reads.labels(Look.UNREADABLE).inc()
            return ABSENT
        self._metrics.reads.labels(Look.HIT).inc()
        return found


def _outcome(stored: bool | Unknown) -> LeaseOutcome:  # noqa: FBT001 - Redis' answer
    if stored is UNKNOWN:
        return LeaseOutcome.UNKNOWN
    return LeaseOutcome.FILLED if stored else LeaseOutcome.LOST
