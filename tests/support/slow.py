"""Clients that take their time, in five ways, many at once on one loop."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from support.raw_http import parse
from support.served import signed

HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\n"
BODY = HEAD + b"content-length: 1000\r\n\r\n"
GOOD = b'{"id":"evt_slow","object":"event"}'
BETWEEN_SECONDS = 0.5
GIVE_UP_SECONDS = 60.0
"""Long past every limit, so a busy machine does not end a connection in the server's place."""


async def _drip(start: bytes, byte: bytes) -> AsyncIterator[bytes]:
    yield start
    while True:
        await asyncio.sleep(BETWEEN_SECONDS)
        yield byte


async def _once(start: bytes) -> AsyncIterator[bytes]:
    yield start


MODES: dict[str, tuple[Callable[[], AsyncIterator[bytes]], set[tuple[int, ...]]]] = {
    "headers a byte at a time": (lambda: _drip(HEAD + b"x: ", b"y"), {()}),
    "headers never finished": (lambda: _once(HEAD), {()}),
    "body a byte at a time": (lambda: _drip(BODY, b"{"), {(408,), ()}),
    "body never finished": (lambda: _once(BODY + b"{"), {(408,)}),
    "silent after a good request": (lambda: _once(signed(GOOD)), {(200,)}),
}
"""What each sends, and the answers it may get before it is closed.

A byte that crosses the end of its connection can cost the client the answer: TCP resets it.
"""


async def crowd(port: int, sockets: int, seconds: float) -> Counter[str]:
    """Keep so many slow sockets open for so long, and send good requests beside them.

    Returns how many of each mode were closed as they must be, and `good` requests answered 200.
    Raises AssertionError if one was answered otherwise, or was still open after a minute.
    """
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds
    modes = itertools.islice(itertools.cycle(MODES), sockets)
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(_stay(port, mode, until, seen)) for mode in modes]
        for _ in range(4):
            group.create_task(_ask(port, slow, seen))
    return seen


async def _stay(port: int, mode: str, until: float, seen: Counter[str]) -> None:
    """Open one socket after the other; at least one."""
    while True:
        await _be_slow(port, mode)
        seen[mode] += 1
        if time.monotonic() >= until:
            return


async def _be_slow(port: int, mode: str) -> None:
    pieces, wanted = MODES[mode]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_send(writer, pieces()))
    try:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            data = await _to_the_end(reader)
    except TimeoutError:
        raise AssertionError(f"still open: {mode}") from None
    finally:
        sending.cancel()
        writer.transport.abort()
    assert parse(data).statuses in wanted, (mode, data)


async def _send(writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes]) -> None:
    try:
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        return  # closed by the server, as it must


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    data = b""
    try:
        while more := await reader.read(65536):
            data += more
    except ConnectionResetError:
        pass  # closed while a byte was on its way
    return data


async def _ask(port: int, slow: list[asyncio.Task[None]], seen: Counter[str]) -> None:
    while not all(task.done() for task in slow):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(signed(GOOD, connection="close"))
        answers = parse(await reader.read()).statuses
        writer.close()
        assert answers == (200,), answers
        seen["good"] += 1
        await asyncio.sleep(0.05)
