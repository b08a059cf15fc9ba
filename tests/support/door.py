"""ingest's app without a socket or a broker: one request in, the answer and what was published."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from ingest.publisher import Receipt, Unavailable, WhyUnavailable
from ingest.webhook import PATH, Webhook
from schemas.envelope import Envelope
from schemas.metrics import IngestMetrics
from schemas.readiness import Readiness

TOPIC = "stripe.events"

Reply = tuple[int, dict[str, Any]]


class MemoryPublisher:
    """Keeps what is published in a list; `broken` says why it cannot, as the broker would."""

    def __init__(self) -> None:
        self.published: list[Envelope] = []
        self.broken: WhyUnavailable | None = None

    async def publish(self, envelope: Envelope) -> Receipt:
        """Acknowledge at once; raises Unavailable where broken."""
        if self.broken is not None:
            raise Unavailable(self.broken)
        self.published.append(envelope)
        return Receipt(TOPIC, 0, len(self.published) - 1)


class Door:
    """One app with its clock, secrets and publisher in the test's hand."""

    def __init__(self, secrets: Sequence[str], now: float) -> None:
        self.secrets = secrets
        self.now = now
        self.publisher = MemoryPublisher()
        self.registry = CollectorRegistry()
        self._app = Webhook(
            publisher=self.publisher,
            secrets=lambda: self.secrets,
            livemode=False,
            readiness=Readiness(),
            metrics=IngestMetrics(self.registry),
            clock=lambda: self.now,
        )

    def post(self, body: bytes, *signatures: bytes) -> Reply:
        """Send a body with its signature headers; returns the status and the document."""
        return asyncio.run(self.send(body, *signatures))

    async def send(self, body: bytes, *signatures: bytes) -> Reply:
        """Do the same inside of a running loop."""
        headers = [(b"stripe-signature", signature) for signature in signatures]
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, _receiver(body), keep)
        start, content = sent
        return start["status"], json.loads(content["body"])

    def counted(self, status: int, reason: str) -> float:
        """Return how many requests were answered so, for that reason."""
        labels = {"answer": str(status), "reason": reason}
        return self.registry.get_sample_value("hookline_ingest_requests_total", labels) or 0


def _receiver(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


@contextlib.contextmanager
def without_log() -> Iterator[None]:
    """Keep a line for each of a million refusals from being written."""
    before = structlog.get_config()
    wrapper = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=wrapper)
    try:
        yield
    finally:
        structlog.configure(**before)
