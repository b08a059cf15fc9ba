"""The gatekeeper inside an application: the same reader, without HTTP in between."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop
from prometheus_client import CollectorRegistry

from consumer.gatekeeper.cache import RedisCache
from consumer.gatekeeper.inspector import Inspector
from consumer.gatekeeper.line import CALL_SECONDS, Line
from consumer.gatekeeper.link import open_link
from consumer.gatekeeper.primary import PostgresPrimary, make_engine
from consumer.gatekeeper.reader import Reader
from schemas.entitlement import Entitlement
from schemas.metrics import ReaderMetrics
from schemas.plans import load_plans
from schemas.settings import ReaderSettings, load

T = TypeVar("T")


class AsyncGatekeeper:
    """Answers what a customer may use now; for one event loop.

    Without settings it reads HOOKLINE_DATABASE_URL, HOOKLINE_REDIS_URL and HOOKLINE_PLANS_FILE,
    and raises SettingsError or PlansError. It connects with the first question. `registry` gets
    its metrics, hookline_gatekeeper_cache_… and hookline_redis_…. A Redis that does not answer
    within `redis_seconds` is done without.
    """

    def __init__(
        self,
        settings: ReaderSettings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        redis_seconds: float = CALL_SECONDS,
    ) -> None:
        settings = settings or load(ReaderSettings)
        self.metrics = ReaderMetrics(registry or CollectorRegistry())
        plans = load_plans(settings.plans_file)
        url = settings.redis_url.get_secret_value()
        self.line = Line(partial(open_link, url), self.metrics.redis, call_seconds=redis_seconds)
        self.primary = PostgresPrimary(make_engine(settings), plans)
        cache = RedisCache(self.line, self.metrics.cache)
        self._inspector = Inspector(cache, self.primary, self.metrics.cache)
        self.reader = Reader(cache, self.primary, plans, watch=self._inspector.watch)

    async def by_customer(self, customer: str) -> Entitlement:
        """Return a customer's answer; one never seen has the default tier, and is not entitled.

        Out of the cache in a fraction of a millisecond, else out of PostgreSQL within two seconds.
        Raises Malformed, or Unreadable if neither Redis nor PostgreSQL can answer.
        """
        return await self.reader.by_customer(customer)

    async def by_reference(self, reference: str) -> Entitlement:
        """Return the best answer among the customers of the application's own id.

        Always out of PostgreSQL; `customer` is None where no customer has it. Raises as
        by_customer does.
        """
        return await self.reader.by_reference(reference)

    async def aclose(self) -> None:
        """Close all connections; safe to repeat."""
        await self._inspector.close()
        await self.line.close()
        await self.primary.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Gatekeeper:
    """Answers what a customer may use now; for any number of threads of one process.

    Settings, registry and errors are those of AsyncGatekeeper. The connections live on a thread of
    its own, which starts with the first question: a process that forks makes its Gatekeeper
    before, and asks after.
    """

    def __init__(
        self,
        settings: ReaderSettings | None = None,
        *,
        registry: CollectorRegistry | None = None,
        redis_seconds: float = CALL_SECONDS,
    ) -> None:
        self._gatekeeper = AsyncGatekeeper(settings, registry=registry, redis_seconds=redis_seconds)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def by_customer(self, customer: str) -> Entitlement:
        """Return a customer's answer, as AsyncGatekeeper does; blocks for two seconds at most."""
        return self._run(self._gatekeeper.by_customer, customer)

    def by_reference(self, reference: str) -> Entitlement:
        """Return a reference's answer, as AsyncGatekeeper does; blocks for two seconds at most."""
        return self._run(self._gatekeeper.by_reference, reference)

    def close(self) -> None:
        """Close all connections and end the thread; safe to repeat."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._gatekeeper.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, find: Callable[[str], Coroutine[Any, Any, T]], name: str) -> T:
        loop = self._loop or self._start()
        if self._pid != os.getpid():
            raise RuntimeError("this Gatekeeper was asked before the fork: make one per process")
        return asyncio.run_coroutine_threadsafe(find(name), loop).result()

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._pid = os.getpid()
                loop = uvloop.new_event_loop()
                self._thread = threading.Thread(
                    target=loop.run_forever, name="gatekeeper", daemon=True
                )
                self._thread.start()
                self._loop = loop
            return self._loop
