"""Composition root of ingest: builds, serves, closes in reverse."""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

import structlog
import uvloop
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from ingest.protocol import limit_protocol
from ingest.publisher import Publisher, producer_config
from ingest.webhook import Webhook
from schemas.access import Refusals
from schemas.metrics import IngestMetrics, new_registry
from schemas.readiness import Readiness, Serve, ServeAdmin
from schemas.settings import IngestSettings, SettingsError, load
from schemas.topics import MIN_INSYNC, REPLICATION
from schemas.trace import Spans

log = structlog.get_logger()

PROBE_EVERY_SECONDS = 5.0
PROBE_SECONDS = 3.0


def run(
    settings: IngestSettings,
    *,
    listener: socket.socket,
    serve: Serve,
    serve_admin: ServeAdmin,
    spans: Spans | None = None,
) -> int:
    """Serve webhooks until SIGTERM or SIGINT, and return the exit code; blocks.

    SIGHUP reads HOOKLINE_WEBHOOK_SECRETS_FILE again.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, listener, serve, serve_admin, spans))


async def _run(
    settings: IngestSettings,
    listener: socket.socket,
    serve: Serve,
    serve_admin: ServeAdmin,
    spans: Spans | None,
) -> int:
    registry = new_registry()
    metrics = IngestMetrics(registry)
    readiness = Readiness()
    secrets = SecretStore(settings, metrics)
    publisher = Publisher(
        producer_config(settings), settings.kafka_topic, asyncio.get_running_loop(), metrics
    )
    topic = TopicProbe(settings, metrics)
    readiness.add("kafka", lambda: topic.problem() or publisher.acknowledged.problem())
    webhook = Webhook(
        publisher=publisher,
        secrets=secrets.current,
        livemode=settings.livemode == "live",
        readiness=readiness,
        metrics=metrics,
        spans=spans,
    )
    probing = asyncio.create_task(topic.watch())
    try:
        with serve_admin(settings.admin_host, settings.ingest_admin_port, registry, readiness):
            log.info("listening", port=settings.ingest_port)
            await serve(
                webhook,
                listener,
                readiness,
                protocol=limit_protocol(metrics),
                on_hangup=secrets.reload,
            )
    finally:
        probing.cancel()
        await asyncio.to_thread(publisher.close)
    log.info("stopped")
    return 0


class SecretStore:
    """The signing secrets of the moment."""

    def __init__(self, settings: IngestSettings, metrics: IngestMetrics) -> None:
        self._metrics = metrics
        self._take(settings)

    def current(self) -> Sequence[str]:
        """Return the secrets, in the order of their positions."""
        return self._secrets

    def reload(self) -> None:
        """Read the secrets again; if they cannot be read, the ones in use stay."""
        try:
            self._take(load(IngestSettings))
        except SettingsError as error:
            log.error("secrets_not_reloaded", why=error.problems)  # noqa: TRY400 - no traceback
            return
        log.info("secrets_reloaded", count=len(self._secrets))

    def _take(self, settings: IngestSettings) -> None:
        self._secrets = tuple(secret.get_secret_value() for secret in settings.webhook_secrets)
        self._metrics.secrets.set(len(self._secrets))
        for position, _ in enumerate(self._secrets, 1):
            # Shown from the start: a secret that never matches is seen as one.
            self._metrics.matched_secrets.labels(position)


class TopicProbe:
    """Looks every few seconds whether the topic is there and safe enough."""

    def __init__(self, settings: IngestSettings, metrics: IngestMetrics) -> None:
        self._metrics = metrics
        self._refusals = Refusals()
        self._config: dict[str, Any] = {
            **settings.kafka_access(),
            "error_cb": self._refusals.note,
        }
        self._admin = self._connect()
        self._topic = settings.kafka_topic
        self._demanding = settings.livemode == "live" and not settings.allow_single_broker
        self._problem: str | None = "not asked yet"
        self._seen_at = time.monotonic()

    def problem(self) -> str | None:
        """Return what is wrong with the topic, as of the last look."""
        if time.monotonic() - self._seen_at > 3 * PROBE_EVERY_SECONDS:
            return "Kafka does not answer"
        return self._problem

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            problem = await asyncio.to_thread(self._look)
            if problem != self._problem:
                log.info("topic_looked_at", problem=problem)
            self._problem = problem
            self._seen_at = time.monotonic()
            await asyncio.sleep(PROBE_EVERY_SECONDS)

    def _look(self) -> str | None:
        try:
            topic = self._admin.list_topics(self._topic, timeout=PROBE_SECONDS).topics[self._topic]
            if topic.error is not None or not topic.partitions:
                return f"there is no topic {self._topic}: run `hookline migrate`"
            self._metrics.topic_partitions.set(len(topic.partitions))
            replicas = min(len(partition.replicas) for partition in topic.partitions.values())
            in_sync = min(len(partition.isrs) for partition in topic.partitions.values())
            insync = self._min_insync() if self._demanding else MIN_INSYNC
        except KafkaException as error:
            self._admin.poll(0)
            # A client keeps to the broker it took for the controller, dead or not, for minutes.
            self._admin = self._connect()
            return self._refusals.why or f"Kafka does not answer: {error.args[0].str()}"
        self._refusals.why = None
        if self._demanding and (replicas < REPLICATION or insync < MIN_INSYNC):
            return (
                f"live mode needs replication {REPLICATION} and min.insync.replicas {MIN_INSYNC}, "
                f"the topic has {replicas} and {insync}; HOOKLINE_ALLOW_SINGLE_BROKER=true accepts "
                "that a power cut can lose events"
            )
        if self._demanding and in_sync < insync:
            return (
                f"{in_sync} replicas of a partition are in sync, and {insync} must be before Kafka "
                "takes an event: brokers are down or behind"
            )
        return None

    def _connect(self) -> AdminClient:
        return AdminClient(self._config, logger=logging.getLogger("kafka"))

    def _min_insync(self) -> int:
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        answer = self._admin.describe_configs([resource], request_timeout=PROBE_SECONDS)
        return int(answer[resource].result()["min.insync.replicas"].value)
