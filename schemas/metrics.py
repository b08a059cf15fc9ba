"""The metric catalogue: a metric exists only if it stands here; no I/O.

One class per process; each metric is an attribute, so a misspelt one is a type error. No label
carries a customer, an event id or anything else a stranger chooses.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

FAST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
BATCH_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500)

KNOWN_TYPES = frozenset(
    {
        "checkout.session.async_payment_failed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "checkout.session.expired",
        "customer.created",
        "customer.deleted",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.pending_update_applied",
        "customer.subscription.pending_update_expired",
        "customer.subscription.resumed",
        "customer.subscription.trial_will_end",
        "customer.subscription.updated",
        "customer.updated",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_action_required",
        "invoice.payment_failed",
        "invoice.payment_succeeded",
        "invoice.upcoming",
        "invoice.updated",
        "invoice.voided",
    }
)


def type_label(event_type: str) -> str:
    """Return the event type as a label value: a known one, else `other`, so labels stay few."""
    return event_type if event_type in KNOWN_TYPES else "other"


class IngestMetrics:
    """What ingest counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "hookline_ingest_requests_total",
            "Webhook requests, by HTTP answer and reason code.",
            ("answer", "reason"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "hookline_ingest_request_seconds",
            "Time from the request's headers to its answer.",
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "hookline_ingest_publish_seconds",
            "Time from handing an event to the Kafka client to the broker's answer.",
            ("result",),
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self.waiting = Gauge(
            "hookline_ingest_waiting_requests",
            "Requests that wait for Kafka's acknowledgement now.",
            registry=registry,
        )
        self.connections = Gauge(
            "hookline_ingest_open_connections",
            "Open connections on the webhook port.",
            registry=registry,
        )
        self.refused_connections = Counter(
            "hookline_ingest_refused_connections_total",
            "Connections closed by a limit before a request was read, by limit.",
            ("limit",),
            registry=registry,
        )
        self.matched_secrets = Counter(
            "hookline_ingest_matched_secrets_total",
            "Verified signatures, by the position (from 1) of the secret that matched.",
            ("position",),
            registry=registry,
        )


class RedisMetrics:
    """What every user of Redis counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.unknown = Counter(
            "hookline_redis_unknown_total",
            "Questions that Redis did not answer in time, by operation; work goes on without.",
            ("operation",),
            registry=registry,
        )
        self.breaker_open = Gauge(
            "hookline_redis_breaker_open",
            "1 while Redis is left alone after repeated failures, else 0.",
            registry=registry,
        )


class ConsumerMetrics:
    """What a consumer counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.redis = RedisMetrics(registry)
        self._count_events(registry)
        self._watch_batches(registry)
        self._watch_partitions(registry)

    def _count_events(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "hookline_consumer_events_total",
            "Events recorded, by type and outcome.",
            ("type", "outcome", "reason"),
            registry=registry,
        )
        self.duplicates = Counter(
            "hookline_consumer_duplicates_total",
            "Deliveries dropped as already applied, by the layer that knew.",
            ("layer",),
            registry=registry,
        )
        self.dead_letters = Counter(
            "hookline_consumer_dead_letters_total",
            "Records set aside, by reason.",
            ("reason",),
            registry=registry,
        )
        self.second_renderings = Counter(
            "hookline_consumer_second_renderings_total",
            "Known event ids that came again with another API version: two endpoints feed us.",
            registry=registry,
        )
        self.unmapped_prices = Counter(
            "hookline_consumer_unmapped_prices_total",
            "Changed subscriptions none of whose prices stands in the plans file.",
            registry=registry,
        )
        self.ambiguous = Counter(
            "hookline_consumer_ambiguous_total",
            "Changed subscriptions whose last state is a tie that the events do not settle.",
            registry=registry,
        )

    def _watch_batches(self, registry: CollectorRegistry) -> None:
        self.batches = Counter(
            "hookline_consumer_batches_total",
            "Batches, by verdict: applied, or why not.",
            ("verdict",),
            registry=registry,
        )
        self.batch_records = Histogram(
            "hookline_consumer_batch_records",
            "Records in a batch.",
            buckets=BATCH_RECORDS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "hookline_consumer_batch_seconds",
            "Time one phase of a batch took.",
            ("phase",),
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self.end_to_end_seconds = Histogram(
            "hookline_consumer_end_to_end_seconds",
            "Time from an event's receipt by ingest to the commit of its effects.",
            buckets=DELAY_SECONDS,
            registry=registry,
        )
        self.ended_backends = Counter(
            "hookline_consumer_ended_backends_total",
            "Database sessions of our own role that were ended because they blocked a batch.",
            registry=registry,
        )
        self.locks_held = Counter(
            "hookline_consumer_locks_held_total",
            "Customer locks that somebody else held; the row lock decided.",
            registry=registry,
        )

    def _watch_partitions(self, registry: CollectorRegistry) -> None:
        self.partitions = Gauge(
            "hookline_consumer_partitions",
            "Partitions this process owns.",
            registry=registry,
        )
        self.stopped_partitions = Gauge(
            "hookline_consumer_stopped_partitions",
            "Owned partitions that wait for an operator.",
            registry=registry,
        )
        self.stalled_partitions = Gauge(
            "hookline_consumer_stalled_partitions",
            "Owned partitions with lag and no progress for a minute.",
            registry=registry,
        )
        self.lag_records = Gauge(
            "hookline_consumer_lag_records",
            "Records of an owned partition that are not applied yet.",
            ("partition",),
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "hookline_consumer_lag_seconds",
            "Age of the oldest record of an owned partition that is not applied yet.",
            ("partition",),
            registry=registry,
        )
        self.uncommitted_records = Gauge(
            "hookline_consumer_uncommitted_records",
            "Position in PostgreSQL less the offset committed to Kafka.",
            ("partition",),
            registry=registry,
        )


class GatekeeperMetrics:
    """What the gatekeeper counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            "hookline_gatekeeper_answers_total",
            "Answers, by HTTP status and where the entitlement came from.",
            ("answer", "source"),
            registry=registry,
        )
        self.answer_seconds = Histogram(
            "hookline_gatekeeper_answer_seconds",
            "Time an answer took, by where the entitlement came from.",
            ("source",),
            buckets=FAST_SECONDS,
            registry=registry,
        )
