"""A server that costs nothing: it reads requests to their ends and says 200.

What the load generator reaches here is what it could reach; three times what it measures
elsewhere, or that measurement does not count.
"""

import asyncio
import sys
from typing import Any

import uvloop

from ops.embedded.ports import HOST

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._missing = 0

    def connection_made(self, transport: Any) -> None:
        """Keep the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole; one at a time, as the generator sends them."""
        if not self._missing:
            end = data.index(b"\r\n\r\n")
            at = data.find(b"content-length: ", 0, end)
            length = int(data[at + 16 : data.index(b"\r\n", at)]) if at >= 0 else 0
            self._missing = end + 4 + length
        self._missing -= len(data)
        if not self._missing:
            self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Sink, HOST, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
