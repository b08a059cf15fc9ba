"""One hit in a thousand is compared with PostgreSQL a second later, and what differs is counted."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from consumer.gatekeeper.cache import Cache
from consumer.gatekeeper.primary import Fresh, Primary, Unreadable
from schemas.entitlement import Entitlement
from schemas.metrics import CacheMetrics

log = structlog.get_logger()

SHARE = 0.001
LATER_SECONDS = 1.0
SETTLE_SECONDS = 0.25
"""A consumer drops an entry a moment after its COMMIT: what is gone by then was never wrong."""

AT_ONCE = 16


class Inspector:
    """Watches the hits of one reader; for one event loop."""

    def __init__(
        self,
        cache: Cache,
        primary: Primary,
        metrics: CacheMetrics,
        *,
        share: float = SHARE,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._primary = primary
        self._metrics = metrics
        self._share = share
        self._chance = chance
        self._sleep = sleep
        self._monotonic = monotonic
        self._running: set[asyncio.Task[None]] = set()

    def watch(self, hit: Entitlement) -> None:
        """Inspect one hit in so many in the background; at most sixteen at a time."""
        if self._chance() >= self._share or len(self._running) >= AT_ONCE:
            return
        task = asyncio.create_task(self.inspect(hit))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def inspect(self, hit: Entitlement) -> None:
        """Compare a hit with the primary a second later; counts, logs, never raises Unreadable."""
        assert hit.customer is not None  # noqa: S101 - entries are customers'
        served_at = self._monotonic()
        await self._sleep(LATER_SECONDS)
        try:
            fresh = await self._primary.by_customer(hit.customer)
        except Unreadable:
            return
        if not hit.holds_at(fresh.read_at):
            return
        self._metrics.inspected.inc()
        self._metrics.staleness_seconds.observe(_staleness(hit, fresh, served_at))
        if not _agree(hit, fresh.answer):
            await self._sleep(SETTLE_SECONDS)
            entry = await self._cache.get(hit.customer)
            if isinstance(entry, Entitlement) and _agree(hit, entry):
                self._metrics.differences.inc()
                log.error("cache_differs", customer=hit.customer, cached=hit.version)

    async def close(self) -> None:
        """End what is being inspected; safe to repeat."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _staleness(hit: Entitlement, fresh: Fresh, served_at: float) -> float:
    """Return how old the change was, when the hit was served, that it did not show."""
    if _agree(hit, fresh.answer) or fresh.changed_at is None:
        return 0.0
    since_change = (fresh.read_at - fresh.changed_at).total_seconds()
    return max(0.0, since_change - (fresh.asked_at - served_at))


def _agree(one: Entitlement, other: Entitlement) -> bool:
    return _shown(one) == _shown(other)


def _shown(answer: Entitlement) -> tuple[object, ...]:
    return answer.version, answer.tier, answer.entitled, answer.status, answer.grace_until
