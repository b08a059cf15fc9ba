"""An answer is stored on the server that gave the lease, and on no other."""

import asyncio
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from consumer.gatekeeper.cache import Lease, RedisCache
from consumer.gatekeeper.line import Line
from schemas.entitlement import Entitlement
from schemas.labels import LeaseOutcome
from schemas.metrics import CacheMetrics

ANSWER = Entitlement("cus_1", "pro", True, "active", None, None, 1)  # noqa: FBT003 - a record


class OneServer:
    """A line and a link to a server that holds every lease, as a copy of another one does."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self.sent: list[tuple[str | bytes | int, ...]] = []

    async def ask(self, _operation: object, call: Any) -> Any:
        """Run a call."""
        return await call(self)

    async def call(self, *command: str | bytes | int) -> int:
        """Take a command."""
        self.sent.append(command)
        return 1


@pytest.mark.parametrize(
    ("generation", "sent", "outcome"), [("a", 1, LeaseOutcome.FILLED), ("b", 0, LeaseOutcome.LOST)]
)
def test_only_the_server_of_the_lease_is_filled(
    generation: str, sent: int, outcome: LeaseOutcome
) -> None:
    """After a fail-over nothing is sent, although a copy of the lease has come there."""
    server, metrics = OneServer(generation), CacheMetrics(CollectorRegistry())
    cache = RedisCache(cast(Line, server), metrics)
    asyncio.run(cache.fill(Lease("cus_1", "a", "token"), ANSWER, 60))
    assert len(server.sent) == sent
    assert metrics.leases.labels(outcome)._value.get() == 1  # noqa: SLF001 - the client's own
