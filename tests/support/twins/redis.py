"""Redis in memory, fakeredis with Lua, and the bounded way to it without a thread."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import fakeredis
import redis

from consumer.storage.bounded_redis import BoundedRedis, Breaker
from consumer.storage.redis_session import Session
from schemas.metrics import RedisMetrics
from support.twins.turns import Turns

T = TypeVar("T")


class MemoryRedis:
    """One server."""

    def __init__(self) -> None:
        self._server = fakeredis.FakeServer()
        self.client = self.connect()
        self.generation = 1

    def connect(self) -> Any:
        """Return a client."""
        return fakeredis.FakeRedis(server=self._server, decode_responses=True)

    def flush(self) -> None:
        """Forget everything."""
        self.client.flushall()

    def snapshot(self) -> dict[bytes, Any]:
        """Return what a dump would hold."""
        return {key: copy.copy(item) for key, item in self._server.dbs[0]._dict.items()}  # noqa: SLF001

    def restore(self, snapshot: dict[bytes, Any]) -> None:
        """Start again from a dump: another generation."""
        self.flush()
        for key, item in snapshot.items():
            self._server.dbs[0]._dict[key] = copy.copy(item)  # noqa: SLF001
        self.generation += 1


class MemoryBoundedRedis(BoundedRedis):
    """Answers or does not know, as the test decides: the limit is the test's, the breaker real."""

    def __init__(
        self, server: MemoryRedis, turns: Turns, metrics: RedisMetrics, breaker: Breaker
    ) -> None:
        super().__init__(lambda: Session(server.connect(), ""), metrics, breaker=breaker)
        self._memory = server
        self._turns = turns
        self._circuit = breaker

    def ask(self, operation: str, call: Callable[[Session], T]) -> T | None:
        """Run a call; None means "don't know", and that it may have taken effect."""
        if self._circuit.is_open:
            return None
        answer: list[T] = []
        session = Session(self._memory.client, str(self._memory.generation))
        try:
            self._turns.commit(f"redis.{operation}", lambda: answer.append(call(session)))
        except redis.RedisError:
            self._circuit.failed()
            return None
        self._circuit.succeeded()
        return answer[0]

    def probe(self) -> None:
        """See whether the server is back, whatever the breaker says."""
        if not self._circuit.is_open:
            return
        try:
            self._turns.commit("redis.probe", lambda: None)
        except redis.RedisError:
            return
        self._circuit.succeeded()
