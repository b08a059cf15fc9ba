"""Sending events to ingest as Stripe does: signed at that moment, again when refused for now."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

import httpx2 as httpx

from ops.simulator.life import Event
from schemas.envelope import Envelope
from schemas.signature import sign
from schemas.stripe_event import decode_route

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where ingest is, unless HOOKLINE_INGEST_URL says otherwise."""

CONCURRENCY = 64
TIMEOUT_SECONDS = 30.0
NO_ANSWER = 0
"""Stands for the status of a request that was not answered."""

LONGEST_PAUSE_SECONDS = 5.0
SHORTEST_PAUSE_SECONDS = 0.2


class Signable(Protocol):
    """An event that can be sent."""

    @property
    def id(self) -> str:
        """The event's id."""

    @property
    def body(self) -> bytes:
        """The bytes to sign and send."""


def enclose(event: Event, secret: str) -> Envelope:
    """Return a simulated event as ingest would publish it now, for who writes to Kafka himself."""
    now = datetime.now(UTC)
    return Envelope(
        key=decode_route(event.body).key,
        body=event.body,
        event_id=event.id,
        type=event.type,
        created=datetime.fromtimestamp(event.created, UTC),
        livemode=False,
        received_at=now,
        signature=sign(event.body, secret, int(now.timestamp())).encode(),
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """What ingest answered to one event in the end; status 0: no answer came."""

    event_id: str
    status: int
    answer: dict[str, Any]
    refused: tuple[int, ...] = ()
    """The answers before, after which it was sent again."""

    @property
    def summary(self) -> str:
        """What the answer says in a word or two."""
        word = str(self.answer.get("status") or self.answer.get("error") or "")
        reason = self.answer.get("reason")
        return f"{word}: {reason}" if reason else word

    @property
    def is_refused_for_now(self) -> bool:
        """Tell whether Stripe would send the event again."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status == NO_ANSWER


async def deliver(
    events: Iterable[Signable],
    url: str,
    secret: str,
    on_answer: Callable[[Delivery], None],
    *,
    concurrency: int = CONCURRENCY,
    rate: float | None = None,
    patience: float = 0.0,
) -> None:
    """Send events in their order, some at a time, at most `rate` a second.

    What is answered 5xx or not at all is sent again, each time signed anew, until `patience`
    seconds have passed since its first try; 0 sends once. `on_answer` gets each event's last
    answer. Takes an event from `events` only when it is sent next.
    """
    target = url.rstrip("/") + "/webhooks/stripe"
    waiting = iter(events)
    pace = _Pace(rate)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT_SECONDS) as client:

        async def work() -> None:
            for event in waiting:
                await pace.next()
                on_answer(await _send(client, target, event, secret, patience))

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())


class _Pace:
    """Hands out moments to send at, evenly spread; None: as fast as answered."""

    def __init__(self, rate: float | None) -> None:
        self._every = 0.0 if rate is None else 1 / rate
        self._next = time.monotonic()

    async def next(self) -> None:
        """Wait for the next moment."""
        if not self._every:
            return
        now = time.monotonic()
        # What was missed is not made up for in a burst.
        self._next = max(self._next + self._every, now)
        await asyncio.sleep(self._next - now)


async def _send(
    client: httpx.AsyncClient, url: str, event: Signable, secret: str, patience: float
) -> Delivery:
    refused: list[int] = []
    deadline = time.monotonic() + patience
    while True:
        delivery, pause = await _post(client, url, event, secret)
        if not delivery.is_refused_for_now or time.monotonic() + pause > deadline:
            return Delivery(delivery.event_id, delivery.status, delivery.answer, tuple(refused))
        refused.append(delivery.status)
        await asyncio.sleep(pause)


async def _post(
    client: httpx.AsyncClient, url: str, event: Signable, secret: str
) -> tuple[Delivery, float]:
    """Send once; returns the answer and how long to wait before sending again."""
    body = event.body
    headers = {
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": sign(body, secret, int(time.time())),
    }
    try:
        response = await client.post(url, content=body, headers=headers)
    except httpx.HTTPError as error:
        nothing = Delivery(event.id, NO_ANSWER, {"error": type(error).__name__})
        return nothing, SHORTEST_PAUSE_SECONDS
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    known = answer if isinstance(answer, dict) else {}
    return Delivery(event.id, response.status_code, known), _pause(response)


def _pause(response: httpx.Response) -> float:
    """Return what Retry-After asks for, within reason."""
    asked = response.headers.get("retry-after", "")
    seconds = float(asked) if asked.isdigit() else SHORTEST_PAUSE_SECONDS
    wanted = min(max(seconds, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
    # Not all at once, and not in the very moment in which idle connections are closed.
    return wanted * random.uniform(1.05, 1.5)  # noqa: S311 - jitter
