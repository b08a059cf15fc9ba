"""Redis within a limit: it answers in time, or "don't know"; it never raises and never decides."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import redis
import structlog

from consumer.storage.redis_session import (
    CONNECT_SECONDS,
    NoGenerationError,
    Session,
    WrongRedisError,
)
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics

log = structlog.get_logger()

CALL_SECONDS = 0.1
PROBE_SECONDS = 0.05
"""How long a probe is waited for at once; a Redis on the same network answers in time."""

FAILURES_TO_OPEN = 5
OPEN_SECONDS_LEAST = 0.5
OPEN_SECONDS_MOST = 30.0

T = TypeVar("T")


class Breaker:
    """Leaves Redis alone after repeated failures, and tries again after a growing pause."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._closed_at = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether Redis is to be left alone now."""
        return self._failures >= FAILURES_TO_OPEN and self._clock() < self._closed_at

    @property
    def is_tripped(self) -> bool:
        """Tell whether the last calls failed, be it time for another try or not."""
        return self._failures >= FAILURES_TO_OPEN

    @property
    def has_failed(self) -> bool:
        """Tell whether the last call failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """Forget all failures."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure; from the fifth in a row on, open for 0.5 s doubling up to 30 s."""
        self._failures += 1
        doublings = min(self._failures - FAILURES_TO_OPEN, 10)
        if doublings >= 0:
            pause = min(OPEN_SECONDS_LEAST * 2**doublings, OPEN_SECONDS_MOST)
            self._closed_at = self._clock() + pause * (0.5 + self._jitter() / 2)


class BoundedRedis:
    """One process's way to Redis; for one caller at a time."""

    def __init__(
        self,
        connect: Callable[[], Session],
        metrics: RedisMetrics,
        *,
        call_seconds: float = CALL_SECONDS,
        breaker: Breaker | None = None,
    ) -> None:
        self._connect = connect
        self._metrics = metrics
        self._call_seconds = call_seconds
        self._breaker = breaker or Breaker()
        self._lane = _Lane()
        self._probing: tuple[_Lane, Future[None]] | None = None
        self._why: str | None = None

    def ask(self, operation: RedisOperation, call: Callable[[Session], T]) -> T | None:
        """Run a call within the limit over the whole of it; None means "don't know".

        Blocks for at most the limit (ten times it while connecting). The call may have taken
        effect although the answer is None.
        """
        if self._breaker.is_open:
            self._count_unknown(operation)
            return None
        limit = self._call_seconds if self._lane.session else CONNECT_SECONDS
        future: Future[T] = self._lane.submit(partial(self._run, self._lane, call))
        try:
            answer = future.result(timeout=limit)
        except (redis.RedisError, OSError, TimeoutError, ValueError) as error:
            log.warning("redis_unknown", operation=operation, why=type(error).__name__)
            self._discard()
            self._breaker.failed()
            self._note_why(error)
            self._count_unknown(operation)
            return None
        self._note_success()
        return answer

    def greet(self) -> None:
        """Connect within a second; a Redis that is away or slow is no reason to wait.

        Raises WrongRedisError for one that no waiting mends.
        """
        future = self._lane.submit(partial(self._run, self._lane, lambda _session: None))
        try:
            future.result(timeout=CONNECT_SECONDS)
        except WrongRedisError:
            self.close()
            raise
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.warning("redis_away", why=type(error).__name__)
            self._discard()

    def probe(self) -> None:
        """See whether a Redis that is left alone is back, and use it again; for every second.

        Does not wait for the breaker, and for 50 ms at most: what takes longer is looked at by
        the next call, which begins anew at once if it has failed.
        """
        if not self._breaker.is_open:
            self._end_probe()
            return
        if self._probing is not None and self._has_failed(self._probing[1]):
            self._end_probe()
        if self._probing is None:
            lane = _Lane()
            self._probing = lane, lane.submit(partial(self._run, lane, _ping))
        lane, future = self._probing
        wait([future], timeout=PROBE_SECONDS)
        if not future.done() or self._has_failed(future):
            return
        self._probing = None
        self._discard()
        self._lane.end()
        self._lane = lane
        self._note_success()

    def note_refusals(self, operation: RedisOperation, answers: Iterable[object]) -> None:
        """Count a call of which Redis refused a part, such as for want of memory.

        Raises redis.ReadOnlyError where it takes no writes at all: the connection leads to the
        wrong server, so the call is to fail.
        """
        refusals = [answer for answer in answers if isinstance(answer, redis.RedisError)]
        for refusal in refusals:
            if isinstance(refusal, redis.ReadOnlyError):
                raise refusal
        if refusals:
            log.warning("redis_refused", operation=operation, why=type(refusals[0]).__name__)
            self._metrics.unknown.labels(operation).inc()

    def problem(self) -> str | None:
        """Say for readiness whether Redis is left alone; hookline works on without it."""
        if self._breaker.is_tripped:
            return self._why or "left alone after repeated failures"
        return None

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        self._discard()
        self._lane.end()
        self._end_probe()

    def _run(self, lane: "_Lane", call: Callable[[Session], T]) -> T:
        if lane.session is None:
            lane.session = self._connect()
        return call(lane.session)

    def _has_failed(self, probe: "Future[None]") -> bool:
        """Tell whether a probe is over and Redis still away; raises what is no fault of Redis'."""
        error = probe.exception() if probe.done() else None
        if error is None:
            return False
        if not isinstance(error, (redis.RedisError, OSError, ValueError)):
            raise error
        self._note_why(error)
        return True

    def _end_probe(self) -> None:
        """Give the probe up, if there is one: its connection is of an earlier moment."""
        if self._probing is None:
            return
        lane, _ = self._probing
        self._probing = None
        lane.end()
        if lane.session is not None:
            lane.session.client.connection_pool.disconnect()

    def _note_success(self) -> None:
        self._breaker.succeeded()
        self._why = None
        self._metrics.breaker_open.set(0)

    def _note_why(self, error: Exception) -> None:
        """Keep the sentence of what a person must put right."""
        is_told = isinstance(error, (NoGenerationError, WrongRedisError))
        self._why = str(error) if is_told else None

    def _count_unknown(self, operation: RedisOperation) -> None:
        self._metrics.unknown.labels(operation).inc()
        self._metrics.breaker_open.set(self._breaker.is_tripped)

    def _discard(self) -> None:
        """Drop the connection and the thread that may still wait on it.

        A socket timeout restarts with each byte, so a server that trickles would hold the
        thread for long: it is left to its fate, and a new one takes over.
        """
        lane, self._lane = self._lane, _Lane()
        lane.end()
        if lane.session is not None:
            lane.session.client.connection_pool.disconnect()


def _ping(session: Session) -> None:
    session.client.ping()


class _Lane:
    """One thread with the connection that it alone uses.

    A thread that was given up and connects late keeps what it gets: on a shared connection it
    would read the answers to another call's marks. It is a daemon, unlike an executor's: one that
    a trickling server holds must not hold up the end of the process.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="redis", daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Let the thread make a call, after those that wait."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def end(self) -> None:
        """Let the thread end once its call returns; does not wait."""
        self._calls.put(None)

    def _work(self) -> None:
        while found := self._calls.get():
            future, call = found
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)
