"""One connection to Redis for one event loop; all commands go over it side by side."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis
from redis.asyncio import Connection, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from consumer.storage.redis_session import (
    CONNECT_SECONDS,
    NoGenerationError,
    WrongRedisError,
    find_primary,
    read_generation,
)
from schemas.access import why_redis_refuses


class Link(Protocol):
    """What the cache needs of a connection; broken, it is thrown away, never made anew in place."""

    @property
    def generation(self) -> str:
        """The generation of the server behind it, read when the connection was made."""

    def call(self, *command: str | bytes | int) -> Awaitable[Any]:
        """Send a command and return its answer; raises redis.RedisError."""

    async def close(self) -> None:
        """Give it up; what still waits for an answer gets an error. Safe to repeat."""


class RedisLink:
    """A link over one socket: commands are written as they come, answers read in their order."""

    def __init__(self, connection: Connection, generation: str) -> None:
        self.generation = generation
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._error: Exception | None = None
        self._reading = asyncio.create_task(self._read())

    async def call(self, *command: str | bytes | int) -> Any:
        """Send a command and return its answer; raises redis.RedisError."""
        if self._error is not None:
            raise self._error
        packed = self._connection.pack_command(*command)
        answer = asyncio.get_running_loop().create_future()
        # Nothing else runs between these two, so answers and commands are in one order.
        self._waiting.append(answer)
        try:
            await self._connection.send_packed_command(packed, check_health=False)
        except RuntimeError as error:
            # What uvloop says of a socket that it has closed, until its end is read.
            answer.cancel()
            raise redis.ConnectionError("the connection was lost") from error
        except BaseException:
            answer.cancel()
            raise
        return await answer

    async def close(self) -> None:
        """Give it up; what still waits for an answer gets an error. Safe to repeat."""
        self._break(redis.ConnectionError("the connection was given up"))
        self._reading.cancel()
        await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        try:
            while True:
                self._settle(await self._next_answer())
        except (redis.RedisError, OSError) as error:
            self._break(error)

    async def _next_answer(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)
        except redis.ResponseError as refusal:
            return refusal

    def _settle(self, answer: Any) -> None:
        """Hand an answer to the command that has waited longest, if its caller still does."""
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _break(self, error: Exception) -> None:
        """Let every command fail that waits or comes."""
        self._error = self._error or error
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._error)


async def open_link(url: str) -> RedisLink:
    """Connect to the primary and read its generation; raises redis.RedisError or OSError.

    WrongRedisError is for what no waiting mends, NoGenerationError for a server that does not
    tell its generation: without one nothing may be cached.
    """
    if "+sentinel" in urlsplit(url).scheme:
        url = await asyncio.to_thread(find_primary, url)
    client = Redis.from_url(
        url,
        single_connection_client=True,
        socket_timeout=None,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    connection: Connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    client.connection = connection
    try:
        generation = await _greet(client)
    except BaseException as error:
        # At once: a client that is cancelled while it closes its pool leaves the socket open.
        await connection.disconnect(nowait=True)
        if isinstance(error, redis.RedisError) and (why := why_redis_refuses(str(error))):
            raise WrongRedisError(why) from None
        raise
    finally:
        client.connection = None
    connection.redis_connect_func = _refuse_to_reconnect
    return RedisLink(connection, generation)


async def _greet(client: Redis) -> str:
    """Connect a client and return the generation of its server, if that is a primary."""
    async with asyncio.timeout(CONNECT_SECONDS):
        try:
            server, replication = await client.info("server"), await client.info("replication")
        except NoPermissionError:
            raise NoGenerationError from None
    generation = read_generation(server)
    if replication["role"] != "master":
        raise redis.ReadOnlyError("HOOKLINE_REDIS_URL leads to a replica")
    return generation


async def _refuse_to_reconnect(connection: AbstractConnection) -> None:  # noqa: ARG001
    """Keep redis-py from sending a command again: to another server, under the old generation."""
    raise redis.ConnectionError("a broken connection is thrown away")
