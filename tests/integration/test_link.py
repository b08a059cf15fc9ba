"""A link to a real Valkey: given up while it is made, and lost while it is used."""

import asyncio
import gc
from collections.abc import Callable

import pytest
import redis
import uvloop

from consumer.gatekeeper.link import open_link
from ops.embedded.ports import HOST
from ops.embedded.valkey import Valkey

NewLoop = Callable[[], asyncio.AbstractEventLoop]

MOST_TURNS = 500
"""More turns of the event loop than making a link takes."""


@pytest.mark.parametrize("kind", ["usable", "replica", "without info"])
def test_whenever_it_is_cancelled_it_is_closed(valkey: Valkey, kind: str) -> None:
    """Cancelled after one turn of the loop, after two, and so on until it is made or refused."""
    url = valkey.url
    with redis.Redis.from_url(valkey.url) as admin:
        if kind == "replica":
            admin.replicaof(HOST, 1)
        elif kind == "without info":
            admin.acl_setuser(
                "app", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-info"]
            )
            url = f"redis://app:secret@{HOST}:{valkey.port}/0"
        asyncio.run(_cancel_ever_later(url, admin))


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_command_on_a_lost_connection_fails_as_one(
    valkey: Valkey, new_loop: NewLoop, turns: int
) -> None:
    """However many turns ago the loop closed the socket: who asks does without Redis then."""

    async def run() -> None:
        link = await open_link(valkey.url)
        link._connection._writer.transport.abort()  # type: ignore[union-attr]  # noqa: SLF001 - as a loss does
        for _ in range(turns):
            await asyncio.sleep(0)
        with pytest.raises(redis.ConnectionError):
            await link.call("GET", "key")
        await link.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


async def _cancel_ever_later(url: str, admin: redis.Redis) -> None:
    gc.disable()  # it closes what nobody holds any more, some time later
    try:
        for turns in range(MOST_TURNS):
            opening = asyncio.create_task(open_link(url))
            for _ in range(turns):
                await asyncio.sleep(0)
            is_over = opening.done()
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            async with asyncio.timeout(10):
                while len(admin.client_list()) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            if is_over:
                return
    finally:
        gc.enable()
    pytest.fail("it was never over")
