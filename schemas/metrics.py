"""The metric catalogue: a metric exists only if it stands here; no I/O.

One class per process; each metric is an attribute, so a misspelt one is a type error. So is a
label value that is not in its list (schemas/labels.py).
"""

from importlib.metadata import version as installed_version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from schemas.instruments import Counters, Gauges, Histograms
from schemas.labels import (
    ByAnswer,
    ByDrift,
    ByEvent,
    ByLayer,
    ByLease,
    ByLetter,
    ByLimit,
    ByLook,
    ByOperation,
    ByPartition,
    ByPhase,
    ByRebalance,
    ByRequest,
    ByResult,
    BySecret,
    BySource,
    ByTask,
    ByVerdict,
    ByVersion,
    EventType,
)

disable_created_metrics()  # type: ignore[no-untyped-call]

FAST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
BATCH_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500)

DAYS = (21_600, 86_400, 3 * 86_400)
"""Stripe sends an event again for three days."""


def type_label(event_type: str) -> EventType:
    """Return the event type as a label value: a known one, else `other`, so labels stay few."""
    return _TYPES.get(event_type, EventType.OTHER)


_TYPES = {str(known): known for known in EventType}


def new_registry() -> CollectorRegistry:
    """Return a process's registry, with what any process exports: version, processor, memory."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    ProcessMetrics(registry)
    return registry


class ProcessMetrics:
    """What every process exports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.build = Gauges(
            "hookline_build_info",
            "1, with the version that runs.",
            ByVersion,
            registry=registry,
        )
        self.build.labels(installed_version("hookline")).set(1)


class IngestMetrics:
    """What ingest counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counters(
            "hookline_ingest_requests_total",
            "Webhook requests, by HTTP answer and reason code.",
            ByRequest,
            registry=registry,
        )
        self.request_seconds = Histogram(
            "hookline_ingest_request_seconds",
            "Time from the request's headers to its answer.",
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self.publish_seconds = Histograms(
            "hookline_ingest_publish_seconds",
            "Time from handing an event to the Kafka client to the broker's answer.",
            ByResult,
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
        self.refused_connections = Counters(
            "hookline_ingest_refused_connections_total",
            "Connections closed by a limit before a request was read, by limit.",
            ByLimit,
            registry=registry,
        )
        self.matched_secrets = Counters(
            "hookline_ingest_matched_secrets_total",
            "Verified signatures, by the position (from 1) of the secret that matched.",
            BySecret,
            registry=registry,
        )
        self.secrets = Gauge(
            "hookline_ingest_secrets",
            "Signing secrets in use; those behind the first are on their way out.",
            registry=registry,
        )
        self.last_event = Gauge(
            "hookline_ingest_last_event_timestamp_seconds",
            "When a request with a valid signature last came; 0: none since the start.",
            registry=registry,
        )
        self.topic_partitions = Gauge(
            "hookline_ingest_topic_partitions",
            "Partitions of the topic; 0 while Kafka has not told.",
            registry=registry,
        )


class RedisMetrics:
    """What every user of Redis counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.unknown = Counters(
            "hookline_redis_unknown_total",
            "Questions that Redis did not answer in time, by operation; work goes on without.",
            ByOperation,
            registry=registry,
        )
        self.breaker_open = Gauge(
            "hookline_redis_breaker_open",
            "1 while Redis is left alone after repeated failures, else 0.",
            registry=registry,
        )


class CacheMetrics:
    """What the entitlement cache counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.reads = Counters(
            "hookline_gatekeeper_cache_reads_total",
            "Looks into the entitlement cache: hit, miss, unreadable, or unknown without Redis.",
            ByLook,
            registry=registry,
        )
        self.leases = Counters(
            "hookline_gatekeeper_cache_leases_total",
            "Leases asked for after a miss: filled; held by another reader; lost, as the customer "
            "changed meanwhile; unknown without Redis.",
            ByLease,
            registry=registry,
        )
        self.inspected = Counter(
            "hookline_gatekeeper_cache_inspected_total",
            "Hits, one in 1,000, that were compared with PostgreSQL a second later.",
            registry=registry,
        )
        self.differences = Counter(
            "hookline_gatekeeper_cache_differences_total",
            "Inspected hits whose entry was still stored although PostgreSQL says otherwise.",
            registry=registry,
        )
        self.staleness_seconds = Histogram(
            "hookline_gatekeeper_cache_staleness_seconds",
            "Age of the change that an inspected hit did not show yet; 0 where it showed all.",
            buckets=(0, *DELAY_SECONDS),
            registry=registry,
        )


class ReaderMetrics:
    """What a reader of entitlements counts, in the gatekeeper or in an application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.redis = RedisMetrics(registry)
        self.cache = CacheMetrics(registry)


class ConsumerMetrics:
    """What a consumer counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.redis = RedisMetrics(registry)
        self._count_events(registry)
        self._watch_batches(registry)
        self._watch_partitions(registry)
        self._watch_letters(registry)

    def _count_events(self, registry: CollectorRegistry) -> None:
        self.events = Counters(
            "hookline_consumer_events_total",
            "Events recorded, by type and outcome.",
            ByEvent,
            registry=registry,
        )
        self.duplicates = Counters(
            "hookline_consumer_duplicates_total",
            "Deliveries dropped as already applied, by the layer that knew.",
            ByLayer,
            registry=registry,
        )
        self.dead_letters = Counters(
            "hookline_consumer_dead_letters_total",
            "Records set aside, by reason.",
            ByLetter,
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
        self.batches = Counters(
            "hookline_consumer_batches_total",
            "Batches, by verdict: applied, or why not.",
            ByVerdict,
            registry=registry,
        )
        self.batch_records = Histogram(
            "hookline_consumer_batch_records",
            "Records in a batch.",
            buckets=BATCH_RECORDS,
            registry=registry,
        )
        self.batch_seconds = Histograms(
            "hookline_consumer_batch_seconds",
            "Time one phase of a batch took.",
            ByPhase,
            buckets=FAST_SECONDS,
            registry=registry,
        )
        self.end_to_end_seconds = Histogram(
            "hookline_consumer_end_to_end_seconds",
            "Time from an event's receipt by ingest to the commit of its effects.",
            buckets=DELAY_SECONDS,
            registry=registry,
        )
        self.created_to_commit_seconds = Histogram(
            "hookline_consumer_created_to_commit_seconds",
            "Time from an event's creation at Stripe (whole seconds) to the commit of its effects.",
            buckets=(1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, *DAYS),
            registry=registry,
        )
        self.ended_backends = Counter(
            "hookline_consumer_ended_backends_total",
            "Database sessions of our own role that were ended because they blocked a batch.",
            registry=registry,
        )
        self.invalidations_waiting = Gauge(
            "hookline_consumer_invalidations_waiting",
            "Batches whose cache entries Redis has not confirmed as dropped a second later.",
            registry=registry,
        )
        self.invalidations_oldest_seconds = Gauge(
            "hookline_consumer_invalidations_oldest_seconds",
            "Age of the oldest of those batches; entries they changed may be stale that long.",
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
        self.waiting_partitions = Gauge(
            "hookline_consumer_waiting_partitions",
            "Owned partitions whose position is yet to be read from PostgreSQL.",
            registry=registry,
        )
        self.loop_seconds = Gauge(
            "hookline_consumer_loop_seconds",
            "Time since the loop last came round.",
            registry=registry,
        )
        self.rebalances = Counters(
            "hookline_consumer_rebalances_total",
            "Rebalances that gave this process partitions or took some, by what happened.",
            ByRebalance,
            registry=registry,
        )
        self.applied_records = Counters(
            "hookline_consumer_applied_records_total",
            "Offsets by which a partition's position moved on.",
            ByPartition,
            registry=registry,
        )
        self.lag_records = Gauges(
            "hookline_consumer_lag_records",
            "Records of an owned partition that are not applied yet.",
            ByPartition,
            registry=registry,
        )
        self.lag_seconds = Gauges(
            "hookline_consumer_lag_seconds",
            "Age of the oldest record of an owned partition that is not applied yet.",
            ByPartition,
            registry=registry,
        )
        self.uncommitted_records = Gauges(
            "hookline_consumer_uncommitted_records",
            "Position in PostgreSQL less the offset committed to Kafka.",
            ByPartition,
            registry=registry,
        )

    def _watch_letters(self, registry: CollectorRegistry) -> None:
        self.open_letters = Gauges(
            "hookline_consumer_open_dead_letters",
            "Dead letters that are not resolved, in the whole database, by reason.",
            ByLetter,
            registry=registry,
        )
        self.oldest_letter = Gauge(
            "hookline_consumer_oldest_dead_letter_timestamp_seconds",
            "When the oldest dead letter that is not resolved was set aside; 0: there is none.",
            registry=registry,
        )
        self.last_replay = Gauge(
            "hookline_consumer_last_replay_timestamp_seconds",
            "When a dead letter was last resolved or replayed; 0: never.",
            registry=registry,
        )


class GatekeeperMetrics:
    """What the gatekeeper counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counters(
            "hookline_gatekeeper_answers_total",
            "Answers, by HTTP status and where the entitlement came from: cache, database or none.",
            ByAnswer,
            registry=registry,
        )
        self.answer_seconds = Histograms(
            "hookline_gatekeeper_answer_seconds",
            "Time an answer took, by where the entitlement came from.",
            BySource,
            buckets=FAST_SECONDS,
            registry=registry,
        )


class StripeMetrics:
    """What a consumer counts that asks Stripe, where it has a key."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.missing = Counter(
            "hookline_reconcile_missing_total",
            "Events that Stripe listed and nobody had recorded; they were sent.",
            registry=registry,
        )
        self.last_reconcile = Gauge(
            "hookline_reconcile_last_success_timestamp_seconds",
            "When Stripe's list was last looked through by any process; 0: never.",
            registry=registry,
        )
        self.drift = Gauges(
            "hookline_verify_differing_subscriptions",
            "Subscriptions that were not as Stripe had them when this process last looked at all.",
            ByDrift,
            registry=registry,
        )
        self.last_verify = Gauge(
            "hookline_verify_last_success_timestamp_seconds",
            "When all subscriptions were last held against Stripe by any process; 0: never.",
            registry=registry,
        )
        self.settled_ties = Counter(
            "hookline_stripe_settled_ties_total",
            "Ties that no event settles, and that an answer of Stripe's has settled.",
            registry=registry,
        )
        self.failures = Counters(
            "hookline_stripe_task_failures_total",
            "Tasks that ask Stripe and did not come to their end; they are tried again.",
            ByTask,
            registry=registry,
        )
