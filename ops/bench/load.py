"""A load generator for HTTP: requests made beforehand, so many connections, as fast as answered.

Run as a process of its own, `python -m ops.bench.load SPEC`; the spec names the port, the
requests and the file for what was measured. Each connection sends its next request when the
last one was answered. It does as little as can be for each: serving.py proves how fast it would
be if the server cost nothing.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import uvloop

from ops.embedded.ports import HOST

CONNECTIONS = 64
WARM_UP_SECONDS = 0.5
ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Spec:
    """What to send where, and where the outcome goes."""

    port: int
    requests: str
    """File with the requests, each with its length before it."""
    outcome: str
    seconds: float
    connections: int = CONNECTIONS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was answered; only requests sent after the warm-up have a latency here."""

    rate: float
    latencies: list[float]
    statuses: dict[str, int]
    answers: list[str]
    """The bodies of all answers 200, those of the warm-up too."""


class Caller(asyncio.Protocol):
    """One connection: request, answer, request."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: Any) -> None:
        """Send the first request."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take an answer, once it is whole, and send the next request."""
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            return
        size = end + 4 + _content_length(buffer, end)
        if len(buffer) < size:
            self._buffer = buffer
            return
        self._buffer = b""
        if self._load.take(buffer[9:12], buffer[end + 4 :], self._sent_at):
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Count a connection that ended."""
        self._load.lost()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.next())


class Load:
    """All connections together: what to send next, and what came back."""

    def __init__(self, requests: list[bytes], seconds: float, connections: int) -> None:
        self._requests = requests
        self._numbers = count()
        began = time.perf_counter()
        self._measured_from = began + WARM_UP_SECONDS
        self._until = self._measured_from + seconds
        self._open = connections
        self._statuses: Counter[str] = Counter()
        self._answers: list[bytes] = []
        self._latencies: list[float] = []
        self._last = self._measured_from
        self.done = asyncio.Event()

    def next(self) -> bytes:
        """Return the next request."""
        return self._requests[next(self._numbers) % len(self._requests)]

    def take(self, status: bytes, body: bytes, sent_at: float) -> bool:
        """Note an answer; returns whether the connection is to go on."""
        now = time.perf_counter()
        self._statuses[status.decode()] += 1
        if status == b"200":
            self._answers.append(body)
        if sent_at >= self._measured_from:
            self._latencies.append(now - sent_at)
            self._last = now
        return now < self._until

    def lost(self) -> None:
        """Note that a connection has ended."""
        self._open -= 1
        if not self._open:
            self.done.set()

    def outcome(self) -> Outcome:
        """Return what was measured."""
        seconds = max(self._last - self._measured_from, 1e-6)
        return Outcome(
            len(self._latencies) / seconds,
            self._latencies,
            dict(self._statuses),
            [body.decode("utf-8", "replace") for body in self._answers],
        )


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Write requests for a generator to read."""
    path.write_bytes(b"".join(len(one).to_bytes(4, "big") + one for one in requests))


def read_requests(path: Path) -> list[bytes]:
    """Read what `write_requests` wrote."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


async def generate(spec: Spec) -> Outcome:
    """Load the server for so long, and return when the last request is answered."""
    loop = asyncio.get_running_loop()
    load = Load(read_requests(Path(spec.requests)), spec.seconds, spec.connections)
    for _ in range(spec.connections):
        await loop.create_connection(lambda: Caller(load), HOST, spec.port)
    async with asyncio.timeout(spec.seconds + ANSWER_SECONDS):
        await load.done.wait()
    return load.outcome()


def _content_length(buffer: bytes, end: int) -> int:
    at = buffer.lower().find(b"content-length:", 0, end)
    return int(buffer[at + 15 : buffer.index(b"\r\n", at)]) if at >= 0 else 0


def main() -> None:
    """Carry out the spec named on the command line."""
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    outcome = uvloop.run(generate(spec))
    Path(spec.outcome).write_text(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
