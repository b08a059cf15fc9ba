"""A gatekeeper's line to Redis leaves nothing open when it closes."""

import asyncio

import redis
from prometheus_client import CollectorRegistry

from consumer.gatekeeper.line import Line
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics

TURNS = 5
"""So many turns of the event loop it takes to close a connection here."""


class SlowLink:
    """A link whose commands fail, and which takes a while to close."""

    generation = "a"
    is_closed = False

    async def call(self, *_command: str | bytes | int) -> None:
        """Lose the connection."""
        raise redis.ConnectionError

    async def close(self) -> None:
        """Close it, some turns of the event loop later."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self.is_closed = True


def test_a_link_that_is_being_made_is_given_up_whole() -> None:
    """The line is closed when what was begun is closed too, not when it was told to end."""
    link = SlowLink()

    async def open_link() -> SlowLink:
        try:
            await asyncio.Event().wait()
        finally:
            await link.close()
        return link

    async def run() -> None:
        line = Line(open_link, RedisMetrics(CollectorRegistry()), call_seconds=0.01)
        await line.ask(RedisOperation.SWEEP, lambda found: found.call("GET"))
        await line.close()
        assert link.is_closed
        await line.close()

    asyncio.run(run())


def test_a_link_that_was_thrown_away_is_closed_before_the_line_is() -> None:
    """What a failure began to close in the background is waited for."""
    link = SlowLink()

    async def open_link() -> SlowLink:
        return link

    async def run() -> None:
        line = Line(open_link, RedisMetrics(CollectorRegistry()))
        await line.greet()
        await line.ask(RedisOperation.SWEEP, lambda found: found.call("GET"))
        assert not link.is_closed
        await line.close()
        assert link.is_closed

    asyncio.run(run())
