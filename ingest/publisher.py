"""Publishing with certainty: `publish` returns when the broker has acknowledged with acks=all."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.envelope import Envelope, to_headers, to_key
from schemas.labels import PublishResult
from schemas.metrics import IngestMetrics
from schemas.settings import KafkaSettings
from schemas.topics import MAX_MESSAGE_BYTES

log = structlog.get_logger()

ACK_SECONDS = 7.5
"""Below the 8 s after which a caller is to have its 503."""

DELIVERY_MS = 6_000
POLL_SECONDS = 0.1
FLUSH_SECONDS = 10.0
TRY_AGAIN_SECONDS = 15.0
"""How long readiness remembers a failure: callers must come again, for only they can tell."""

QUEUE_KIB = 256 * 1024


class WhyUnavailable(StrEnum):
    """Why an event could not be published; also a label of metrics."""

    QUEUE_FULL = "queue_full"
    NOT_DELIVERED = "not_delivered"
    NOT_ACKNOWLEDGED = "not_acknowledged"


class Unavailable(Exception):  # noqa: N818 - named by what the caller is told
    """The broker has not acknowledged; the event may stand in the log all the same."""

    def __init__(self, reason: WhyUnavailable) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the broker has put an event."""

    topic: str
    partition: int
    offset: int


class Acknowledged:
    """Whether the brokers acknowledge; what metadata cannot tell while they have lost each other.

    A broker that alone is left goes on answering that all is well.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing_since: float | None = None
        self._failed_at = 0.0

    def worked(self) -> None:
        """Note an acknowledgement."""
        self._failing_since = None

    def failed(self) -> None:
        """Note that one did not come."""
        self._failed_at = self._clock()
        if self._failing_since is None:
            self._failing_since = self._failed_at

    def problem(self) -> str | None:
        """Say for how long nothing has been acknowledged; forgotten 15 s after the last failure."""
        since = self._failing_since
        if since is None or self._clock() - self._failed_at > TRY_AGAIN_SECONDS:
            return None
        return f"Kafka has acknowledged nothing for {self._clock() - since:.0f} s"


def producer_config(settings: KafkaSettings) -> dict[str, str | int | float | bool]:
    """Return librdkafka's settings for the producer."""
    return settings.kafka_access() | {
        "client.id": "hookline-ingest",
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "zstd",
        # As the JVM's producers partition, so that other tools agree on where a customer is.
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        "delivery.timeout.ms": DELIVERY_MS,
        "request.timeout.ms": 5_000,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.kbytes": QUEUE_KIB,
        # A broker that comes back is found within half a second.
        "reconnect.backoff.max.ms": 500,
    }


class Publisher:
    """One producer and the thread that polls it; `publish` belongs to one event loop."""

    def __init__(
        self,
        config: dict[str, str | int | float | bool],
        topic: str,
        loop: asyncio.AbstractEventLoop,
        metrics: IngestMetrics,
    ) -> None:
        self._config = config
        self._topic = topic
        self._loop = loop
        self._seconds = {r: metrics.publish_seconds.labels(r) for r in PublishResult}
        self._waiting = metrics.waiting
        self.acknowledged = Acknowledged()
        self._done: deque[tuple[asyncio.Future[Receipt], Receipt | KafkaError]] = deque()
        self._wake_scheduled = False
        self._closing = False
        self._fatal = False
        self._producer = self._connect()
        self._thread = threading.Thread(target=self._poll, name="kafka-poll", daemon=True)
        self._thread.start()

    @property
    def producer(self) -> Producer:
        """The client of the moment, for questions about the topic."""
        return self._producer

    async def publish(self, envelope: Envelope) -> Receipt:
        """Publish and wait for the acknowledgement, for at most 7.5 s; raises Unavailable."""
        try:
            receipt = await self._publish(envelope)
        except Unavailable:
            self.acknowledged.failed()
            raise
        self.acknowledged.worked()
        return receipt

    def close(self) -> None:
        """Wait for what is on its way, for at most 10 s, and stop polling; blocks."""
        self._producer.flush(FLUSH_SECONDS)
        self._closing = True
        self._thread.join(FLUSH_SECONDS)

    async def _publish(self, envelope: Envelope) -> Receipt:
        if self._fatal:
            self._renew()
        future: asyncio.Future[Receipt] = self._loop.create_future()
        began = time.perf_counter()
        try:
            self._producer.produce(
                self._topic,
                value=envelope.body,
                key=to_key(envelope),
                headers=list(to_headers(envelope)),
                on_delivery=lambda error, message: self._deliver(future, error, message),
            )
        except BufferError:
            raise Unavailable(WhyUnavailable.QUEUE_FULL) from None
        except KafkaException:
            raise Unavailable(WhyUnavailable.NOT_DELIVERED) from None
        result = PublishResult.FAILED
        self._waiting.inc()
        deadline = self._loop.call_later(ACK_SECONDS, _give_up, future)
        try:
            receipt = await future
            result = PublishResult.DELIVERED
            return receipt
        finally:
            deadline.cancel()
            self._waiting.dec()
            self._seconds[result].observe(time.perf_counter() - began)

    def _connect(self) -> Producer:
        return Producer(
            self._config | {"error_cb": self._note_error, "logger": logging.getLogger("kafka")}
        )

    def _renew(self) -> None:
        """Replace a client that has given up for good, as an idempotent one can."""
        log.warning("kafka_client_renewed")
        self._fatal = False
        self._producer = self._connect()

    def _note_error(self, error: KafkaError) -> None:
        self._fatal = self._fatal or error.fatal()
        log.warning("kafka_error", error=error.str(), fatal=error.fatal())

    def _poll(self) -> None:
        while not self._closing:
            self._producer.poll(POLL_SECONDS)

    def _deliver(
        self, future: asyncio.Future[Receipt], error: KafkaError | None, message: Message
    ) -> None:
        """Run in the polling thread; wakes the event loop once for many deliveries."""
        partition, offset = message.partition(), message.offset()
        if error is not None or partition is None or offset is None:
            self._done.append((future, error or KafkaError(KafkaError._FAIL)))  # noqa: SLF001
        else:
            self._done.append((future, Receipt(self._topic, partition, offset)))
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        self._wake_scheduled = False
        while self._done:
            future, result = self._done.popleft()
            if future.done():
                continue
            if isinstance(result, Receipt):
                future.set_result(result)
            else:
                log.warning("not_delivered", error=result.str())
                future.set_exception(Unavailable(WhyUnavailable.NOT_DELIVERED))


def _give_up(future: asyncio.Future[Receipt]) -> None:
    """Wait no longer for an acknowledgement; it may still come, to nobody."""
    if not future.done():
        future.set_exception(Unavailable(WhyUnavailable.NOT_ACKNOWLEDGED))
