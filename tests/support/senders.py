"""Senders that do as Stripe does, and note each answer: what was promised, when, how soon."""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import httpx2 as httpx

from ops.invariants.event_log import EventLog
from ops.simulator.life import Event
from schemas.signature import sign
from support.feed import Stream
from support.pipeline import SECRET, Pipeline
from support.polling import eventually
from support.proving import examples
from support.served import signed

SENDERS = 8
AGAIN_SECONDS = 0.3
ANSWER_SECONDS = examples(8.0, 16.0)
"""Within 8 s everybody has an answer; in `make test` a stalled machine may add to it."""

GIVE_UP_SECONDS = 120.0


Answers = Counter[tuple[int, bool]]
"""How often each status came, without Retry-After and with it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What ingest answered to one delivery; `began` by the monotonic clock."""

    event_id: str
    began: float
    seconds: float
    status: int
    retry_after: str | None
    place: tuple[int, int] | None
    """Partition and offset, where it was accepted."""


class Senders:
    """Send a stream of events while the context is open, each again until it is accepted.

    At its end the customers that have begun are sent whole. Raises AssertionError for an event
    that is not accepted within two minutes.
    """

    def __init__(self, pipeline: Pipeline, stream: Stream, rate: float = 100.0) -> None:
        self.answers: list[Answer] = []
        self._url = pipeline.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"
        self._stream = stream
        self._events = self._take(rate)
        self._taking = threading.Lock()
        self._ending = threading.Event()
        self._giving_up = False
        self._lost: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(SENDERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        self._giving_up = kind is not None
        self._ending.set()
        for thread in self._threads:
            thread.join()
        assert self._giving_up or not self._lost, self._lost

    @property
    def accepted(self) -> list[Answer]:
        """The answers 200 so far."""
        return [answer for answer in self.answers if answer.status == httpx.codes.OK]

    @property
    def refused(self) -> list[Answer]:
        """All other answers so far."""
        return [answer for answer in self.answers if answer.status != httpx.codes.OK]

    def _take(self, rate: float) -> Iterator[Event]:
        began, number = time.monotonic(), 0
        while not self._ending.wait(max(0.0, began + number / rate - time.monotonic())):
            yield from self._stream.take(1)
            number += 1
        yield from self._stream.rest()

    def _run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while (event := self._next()) is not None:
                self._deliver(client, event)

    def _next(self) -> Event | None:
        with self._taking:
            return None if self._giving_up else next(self._events, None)

    def _deliver(self, client: httpx.Client, event: Event) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while post(client, self._url, event, self.answers) != httpx.codes.OK:
            if self._giving_up or time.monotonic() > deadline:
                self._lost.append(event.id)
                return
            # Sooner than asked for, so that more is asked of ingest meanwhile.
            time.sleep(AGAIN_SECONDS)


def post(client: httpx.Client, url: str, event: Event, answers: list[Answer]) -> int:
    """Deliver once, note the answer, return its status."""
    headers = {"stripe-signature": sign(event.body, SECRET, int(time.time()))}
    began = time.monotonic()
    response = client.post(url, content=event.body, headers=headers)
    said, place = response.json(), None
    if response.status_code == httpx.codes.OK:
        place = said["partition"], said["offset"]
    answers.append(
        Answer(
            event.id,
            began,
            time.monotonic() - began,
            response.status_code,
            response.headers.get("retry-after"),
            place,
        )
    )
    return response.status_code


async def flood(port: int, content: bytes, sockets: int, is_enough: Callable[[], bool]) -> Answers:
    """Send a body again and again on so many connections, until enough; returns the answers.

    Raises AssertionError if it is not enough within two minutes.
    """
    answers: Answers = Counter()
    ending = asyncio.Event()

    async def send() -> None:
        while not ending.is_set():
            # Where the machine is slow, ingest may take a connection for one that says nothing.
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await converse()

    async def converse() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while not ending.is_set():
                writer.write(signed(content))
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                answers[int(head.split()[1]), b"retry-after: " in head] += 1
        finally:
            writer.close()

    async def watch() -> None:
        await asyncio.to_thread(eventually, is_enough, GIVE_UP_SECONDS)
        ending.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        for _ in range(sockets):
            group.create_task(send())
    return answers


def hold_promises(answers: list[Answer], bootstrap: str, topic: str) -> None:
    """Demand that each 200 has its event where it says, and all else is a 503 in time."""
    stands = logged(bootstrap, topic)
    lies = [a for a in answers if a.place is not None and stands.get(a.place) != a.event_id]
    assert not lies, lies[:3]
    wrong = [
        a
        for a in answers
        if a.status != httpx.codes.OK
        and not (
            a.status == httpx.codes.SERVICE_UNAVAILABLE
            and (a.retry_after or "").isdigit()
            and a.seconds < ANSWER_SECONDS
        )
    ]
    assert not wrong, wrong[:3]


def logged(bootstrap: str, topic: str) -> dict[tuple[int, int], str]:
    """Return the id of each event in the log by its partition and offset."""
    log = EventLog({"bootstrap.servers": bootstrap}, topic)
    try:
        return {
            (partition, record.offset): dict(record.headers)["ce_id"].decode()
            for partition, (low, end) in log.bounds().items()
            for record in log.read(partition, low, end)
        }
    finally:
        log.close()
