"""Sending to a server that refuses, hangs up and accepts: what Stripe would send again is."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import pytest

from ops.delivery import Delivery, deliver
from ops.simulate import Ledger
from schemas.signature import Verified, verify

SECRET = "whsec_delivery"
ACCEPTED = b'HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{"status":"accepted"}'
REFUSED = b"HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 2\r\n\r\n{}"
FORGED = b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\n{}"
NOTHING = b""


@dataclass(frozen=True)
class Sendable:
    """An event to send."""

    id: str
    body: bytes


EVENTS = [Sendable(f"evt_{n}", b'{"n": %d}' % n) for n in range(40)]


class Receiver:
    """Answers each body with what its script says next, and keeps what it saw."""

    def __init__(self, script: Callable[[bytes], Iterator[bytes]]) -> None:
        self.bodies: Counter[bytes] = Counter()
        self.headers: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._script = script
        self._answers: dict[bytes, Iterator[bytes]] = {}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            lines = dict(
                line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line
            )
            body = await reader.readexactly(int(lines["content-length"]))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            await asyncio.sleep(0)
            self._at_once -= 1
            self.bodies[body] += 1
            self.headers.append(lines["stripe-signature"])
            answer = next(self._answers.setdefault(body, self._script(body)))
            if not answer:
                return
            writer.write(answer)
            await writer.drain()


def run(receiver: Receiver, send: Callable[[str], Awaitable[None]]) -> None:
    """Run a sender against a receiver."""

    async def both() -> None:
        writers = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with contextlib.suppress(asyncio.IncompleteReadError):
                await receiver.handle(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await send(f"http://127.0.0.1:{port}")
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    asyncio.run(both())


def send_all(receiver: Receiver, *, patience: float, concurrency: int = 8) -> list[Delivery]:
    """Send all events and return their last answers."""
    found: list[Delivery] = []

    async def send(url: str) -> None:
        await deliver(EVENTS, url, SECRET, found.append, concurrency=concurrency, patience=patience)

    run(receiver, send)
    return found


def test_what_is_refused_for_now_is_sent_again() -> None:
    """503 and a dropped connection bring the event again until it is accepted."""
    receiver = Receiver(lambda _: chain([REFUSED, NOTHING], repeat(ACCEPTED)))
    found = send_all(receiver, patience=30)
    assert {d.event_id for d in found} == {event.id for event in EVENTS}
    assert {(d.status, d.refused) for d in found} == {(200, (503, 0))}
    assert set(receiver.bodies.values()) == {3}


def test_what_is_refused_for_good_is_not() -> None:
    """A 4xx is the sender's fault: the same bytes would be refused again."""
    receiver = Receiver(lambda _: repeat(FORGED))
    assert {(d.status, d.refused) for d in send_all(receiver, patience=30)} == {(400, ())}
    assert set(receiver.bodies.values()) == {1}


def test_without_patience_nothing_is_sent_twice() -> None:
    """`hookline send` reports the first answer."""
    receiver = Receiver(lambda _: repeat(REFUSED))
    assert {(d.status, d.refused) for d in send_all(receiver, patience=0)} == {(503, ())}
    assert set(receiver.bodies.values()) == {1}


def test_requests_are_signed_and_bounded() -> None:
    """Every request bears a signature of its own body, and no more than N run at a time."""
    receiver = Receiver(lambda _: repeat(ACCEPTED))
    send_all(receiver, patience=0, concurrency=3)
    assert 1 <= receiver.most_at_once <= 3
    stamp = int(receiver.headers[0].split(",")[0].removeprefix("t="))
    verdicts = [
        verify(header.encode(), body, [SECRET], stamp)
        for header, body in zip(receiver.headers, receiver.bodies, strict=True)
    ]
    assert all(isinstance(verdict, Verified) for verdict in verdicts)


def test_ledger_holds_what_may_not_be_lost(tmp_path: Path) -> None:
    """Each event answered 200 is in the ledger's file at once; what was given up is not."""
    good = {event.body for event in EVENTS[:30]}
    receiver = Receiver(lambda body: repeat(ACCEPTED if body in good else REFUSED))
    path = tmp_path / "ledger.jsonl"
    with path.open("w") as file:
        ledger = Ledger(file)
        for delivery in send_all(receiver, patience=0):
            ledger.take(delivery)
            assert len(path.read_text().splitlines()) == sum(ledger.accepted.values())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["event"] for line in lines} == ledger.accepted.keys()
    assert len(lines) == 30
    assert sorted(ledger.given_up) == sorted(event.id for event in EVENTS[30:])
    assert ledger.answers == {"200": 30, "503": 10}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 0])
def test_which_answers_are_for_now(status: int) -> None:
    """Everything that Stripe counts as a failure of the receiver is sent again."""
    assert Delivery("evt_1", status, {}).is_refused_for_now
    assert not Delivery("evt_1", 200, {}).is_refused_for_now
    assert not Delivery("evt_1", 400, {}).is_refused_for_now
