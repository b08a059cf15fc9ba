"""A TCP proxy between any two: it delays, stalls, trickles, cuts and resets.

What it is told holds for living connections and for new ones, until `heal`.
"""

import asyncio
import socket
import ssl
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self, TypeVar

from ops.embedded.ports import HOST

T = TypeVar("T")

CHUNK = 64 * 1024
TRICKLE_SECONDS = 0.08
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero: closing sends RST instead of FIN."""

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""What a PostgreSQL client sends before TLS."""


class Way(Enum):
    """In which direction bytes flow."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


ANSWERS = (Way.TO_CLIENT,)


@dataclass
class Flow:
    """How bytes pass in one direction; `passing` unset holds them until it is set."""

    delay: float = 0.0
    trickle: float = 0.0
    passing: asyncio.Event = field(default_factory=asyncio.Event)

    def heal(self) -> None:
        """Let everything pass at once."""
        self.delay = self.trickle = 0.0
        self.passing.set()


@dataclass(frozen=True, slots=True)
class Trap:
    """Cut the connection whose client sends this word, before it is forwarded or once answered."""

    word: bytes
    answered: bool


@dataclass(eq=False, slots=True)
class Link:
    """One client's connection with the one made for it; `doomed`: the next answer is its last."""

    client: StreamWriter
    server: StreamWriter
    doomed: bool = False


class Proxy:
    """Forwards what connects to `port` to the port given; a context manager, for one thread.

    With `tls` it speaks TLS to its clients and plain bytes to the server; with `asked` as well,
    only once the client asked for it as PostgreSQL's clients do.
    """

    def __init__(
        self,
        target: int,
        host: str = HOST,
        *,
        tls: ssl.SSLContext | None = None,
        asked: bool = False,
    ) -> None:
        self._target = (host, target)
        self._tls = tls
        self._asked = asked
        self._flows = {way: Flow() for way in Way}
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trap: Trap | None = None
        self._refusing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0
        self.cuts = 0
        """Connections that a trap has cut."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self.heal_now)
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, HOST, 0, ssl=None if self._asked else self._tls),
            self._loop,
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- what a test tells it

    def heal(self) -> None:
        """Forward everything at once, what was held first."""
        self._call(self.heal_now)

    def delay(self, seconds: float, *ways: Way) -> None:
        """Hold each piece so long; the answers, unless other ways are named."""

        def delay() -> None:
            for way in ways or ANSWERS:
                self._flows[way].delay = seconds

        self._call(delay)

    def trickle(self, seconds: float = TRICKLE_SECONDS, *ways: Way) -> None:
        """Let one byte pass each so many seconds; of the answers, unless other ways are named."""

        def trickle() -> None:
            for way in ways or ANSWERS:
                self._flows[way].trickle = seconds

        self._call(trickle)

    def stall(self, *ways: Way) -> None:
        """Accept and say nothing, in both directions unless some are named."""

        def stall() -> None:
            for way in ways or Way:
                self._flows[way].passing.clear()

        self._call(stall)

    def cut(self) -> int:
        """Close all connections; returns how many there were."""
        return self._call(lambda: self._end_all(reset=False))

    def reset(self) -> int:
        """End all connections with RST; returns how many there were."""
        return self._call(lambda: self._end_all(reset=True))

    def refuse(self) -> int:
        """End all connections, and each new one before a byte passes, until `heal`."""

        def refuse() -> int:
            self._refusing = True
            return self._end_all(reset=True)

        return self._call(refuse)

    def lead_to(self, target: int) -> None:
        """End all connections, and lead new ones to another port, as a fail-over does."""

        def lead() -> int:
            self._target = (self._target[0], target)
            return self._end_all(reset=True)

        self._call(lead)

    def cut_at(self, word: bytes, *, answered: bool) -> None:
        """Cut the next connection whose client sends this word, once; `cuts` tells when.

        `answered` False: the server never sees the piece with the word. True: the server has
        answered it, and the answer is lost. A word that comes in two pieces is not seen.
        """
        self._trap = Trap(word, answered)

    @property
    def connections(self) -> int:
        """How many connections stand now."""
        return len(self._links)

    # --- inside the loop

    def _call(self, what: Callable[[], T]) -> T:
        async def run() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def heal_now(self) -> None:
        """Heal from inside the proxy's own loop."""
        self._refusing = False
        for flow in self._flows.values():
            flow.heal()

    async def _accept(self, reader: StreamReader, client: StreamWriter) -> None:
        if self._refusing:
            _end(client, reset=True)
            return
        try:
            if self._asked and self._tls is not None:
                await _answer_ssl_request(reader, client, self._tls)
            answers, server = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.IncompleteReadError):
            _end(client, reset=True)
            return
        link = Link(client, server)
        self._links.add(link)
        for pump in (
            self._pump(link, reader, server, Way.TO_SERVER),
            self._pump(link, answers, client, Way.TO_CLIENT),
        ):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, link: Link, reader: StreamReader, writer: StreamWriter, way: Way) -> None:
        """Carry bytes one way until either side ends."""
        try:
            while (piece := await reader.read(CHUNK)) and not self._is_trapped(link, piece, way):
                await self._carry(piece, writer, self._flows[way])
        except OSError:
            pass
        self._end_link(link, reset=False)

    def _is_trapped(self, link: Link, piece: bytes, way: Way) -> bool:
        """Tell whether the trap cuts this link now, before the piece is carried."""
        if way is Way.TO_CLIENT:
            self.cuts += link.doomed
            return link.doomed
        trap = self._trap
        if trap is None or trap.word not in piece:
            return False
        self._trap = None
        link.doomed = trap.answered
        self.cuts += not trap.answered
        return not trap.answered

    async def _carry(self, piece: bytes, writer: StreamWriter, flow: Flow) -> None:
        for part in _single_bytes(piece) if flow.trickle else (piece,):
            await asyncio.sleep(flow.delay + flow.trickle)
            await flow.passing.wait()
            writer.write(part)
            await writer.drain()

    def _end_all(self, *, reset: bool) -> int:
        links = list(self._links)
        for link in links:
            self._end_link(link, reset=reset)
        return len(links)

    def _end_link(self, link: Link, *, reset: bool) -> None:
        self._links.discard(link)
        _end(link.client, reset=reset)
        _end(link.server, reset=reset)

    async def _close(self) -> None:
        self._server.close()
        self._end_all(reset=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One more turn, in which aborted transports close their sockets.
        await asyncio.sleep(0.01)


async def _answer_ssl_request(
    reader: StreamReader, client: StreamWriter, tls: ssl.SSLContext
) -> None:
    """Say yes to PostgreSQL's SSLRequest and change to TLS; raises OSError for anything else."""
    if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
        raise OSError("the client does not ask for TLS")
    client.write(b"S")
    await client.start_tls(tls)


def _single_bytes(piece: bytes) -> list[bytes]:
    return [piece[at : at + 1] for at in range(len(piece))]


def _end(writer: StreamWriter, *, reset: bool) -> None:
    if reset and not writer.is_closing():
        own: socket.socket = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
