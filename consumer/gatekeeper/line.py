"""Redis within a limit, for one event loop: it answers in time, or "don't know"; never raises."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final, Literal, TypeVar

import redis
import structlog

from consumer.gatekeeper.link import Link
from consumer.storage.bounded_redis import Breaker
from consumer.storage.redis_session import CONNECT_SECONDS, NoGenerationError, WrongRedisError
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics

log = structlog.get_logger()

CALL_SECONDS = 0.05

T = TypeVar("T")


class Answer(Enum):
    """What takes the place of an answer."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Answer.UNKNOWN
Unknown = Literal[Answer.UNKNOWN]


class Line:
    """One process's way to Redis: one link, made anew in the background after every failure."""

    def __init__(
        self,
        open_link: Callable[[], Awaitable[Link]],
        metrics: RedisMetrics,
        *,
        call_seconds: float = CALL_SECONDS,
        breaker: Breaker | None = None,
    ) -> None:
        self._open_link = open_link
        self._metrics = metrics
        self._call_seconds = call_seconds
        self._breaker = breaker or Breaker()
        self._link: Link | None = None
        self._opening: asyncio.Task[Link | Exception] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._why: str | None = None

    async def ask(
        self, operation: RedisOperation, call: Callable[[Link], Awaitable[T]]
    ) -> T | Unknown:
        """Run a call within the limit over the whole of it.

        Only the first link is waited for, later ones are made while callers go on without. The
        call may have taken effect although the answer is UNKNOWN.
        """
        if self._breaker.is_open or (self._link is None and not self._may_wait()):
            return self._count_unknown(operation)
        link = self._link
        try:
            async with asyncio.timeout(self._call_seconds):
                link = link or await self._connect()
                answer = await call(link)
        except redis.ResponseError as error:
            return self._refuse(operation, link, error)
        except (redis.RedisError, OSError, ValueError) as error:  # TimeoutError is an OSError
            return self._fail(operation, link, error)
        self._breaker.succeeded()
        self._metrics.breaker_open.set(0)
        return answer

    async def greet(self) -> None:
        """Connect within a second; a Redis that is away or slow is no reason to wait.

        Raises WrongRedisError for one that no waiting mends.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connect()
        except WrongRedisError:
            raise
        except (redis.RedisError, OSError) as error:
            log.warning("redis_away", why=type(error).__name__)

    @property
    def is_connected(self) -> bool:
        """Tell whether there is a link now."""
        return self._link is not None

    def problem(self) -> str | None:
        """Say for readiness why nothing is cached; answers come without."""
        if self._why is not None:
            return self._why
        return "left alone after repeated failures" if self._breaker.is_tripped else None

    async def close(self) -> None:
        """Close the link, and one that is being made; safe to repeat."""
        ending: set[asyncio.Task[Any]] = set(self._closing)
        if self._opening is not None:
            self._opening.cancel()
            ending.add(self._opening)
        if ending:
            # Cancelled once more, as at the end of a loop, it would leave its socket open.
            await asyncio.wait(ending)
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _may_wait(self) -> bool:
        """See to it that a link is made; tell whether it is worth waiting for."""
        self._opening = self._opening or asyncio.create_task(self._open())
        return not self._breaker.has_failed

    async def _connect(self) -> Link:
        self._may_wait()
        assert self._opening is not None  # noqa: S101 - for the type checker
        outcome = await asyncio.shield(self._opening)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _open(self) -> Link | Exception:
        """Make a link, for all who wait for it; an error is returned, for there may be nobody."""
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                self._link = await self._open_link()
        except (redis.RedisError, OSError, ValueError) as error:
            self._note_failure(error)
            return error
        finally:
            self._opening = None
        self._why = None
        return self._link

    def _refuse(
        self, operation: RedisOperation, link: Link | None, error: redis.ResponseError
    ) -> Unknown:
        """Count what Redis refuses, such as for want of memory: the link is as good as before.

        One that takes no writes at all leads to the wrong server.
        """
        if isinstance(error, redis.ReadOnlyError):
            return self._fail(operation, link, error)
        log.warning("redis_refused", operation=operation, why=type(error).__name__)
        return self._count_unknown(operation)

    def _fail(self, operation: RedisOperation, link: Link | None, error: Exception) -> Unknown:
        """Throw the link away. However many calls it takes with it, that is one failure."""
        if link is not None and link is self._link:
            self._link = None
            self._note_failure(error)
            closing = asyncio.create_task(link.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        log.warning("redis_unknown", operation=operation, why=type(error).__name__)
        return self._count_unknown(operation)

    def _note_failure(self, error: Exception) -> None:
        self._breaker.failed()
        self._metrics.breaker_open.set(self._breaker.is_tripped)
        is_told = isinstance(error, (NoGenerationError, WrongRedisError))
        self._why = str(error) if is_told else None

    def _count_unknown(self, operation: RedisOperation) -> Unknown:
        self._metrics.unknown.labels(operation).inc()
        return UNKNOWN
