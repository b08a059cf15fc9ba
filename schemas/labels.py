"""The values that labels of metrics may have: closed lists, and the sets of labels made of them.

No label carries a customer, an event id or anything else that a stranger chooses. A list that
also stands elsewhere in the code is held together with it by tests/unit/test_metrics.py.
"""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """The HTTP status that a request was answered with."""

    OK = "200"
    BAD_REQUEST = "400"
    UNAUTHORIZED = "401"
    NOT_FOUND = "404"
    METHOD_NOT_ALLOWED = "405"
    TOO_SLOW = "408"
    TOO_LARGE = "413"
    UNSUPPORTED = "415"
    HEADER_TOO_LARGE = "431"
    ERROR = "500"
    UNAVAILABLE = "503"
    NONE = "none"
    """The caller was gone, or the connection ended before it was this request's turn."""


class RequestReason(StrEnum):
    """Why ingest answered a request as it did."""

    ACCEPTED = "accepted"
    THIN_EVENT = "thin_event"
    CONNECTED_ACCOUNT = "connected_account"
    OTHER_MODE = "other_mode"
    MISSING_SIGNATURE = "missing_signature"
    HEADER_TOO_LONG = "header_too_long"
    MALFORMED_HEADER = "malformed_header"
    TOO_MANY_SIGNATURES = "too_many_signatures"
    NO_V1_SIGNATURE = "no_v1_signature"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    BODY_NOT_UTF8 = "body_not_utf8"
    WRONG_SIGNATURE = "wrong_signature"
    INVALID_PAYLOAD = "invalid_payload"
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_SLOW = "too_slow"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    HEADER_TOO_LARGE = "header_too_large"
    DRAINING = "draining"
    TOO_MANY_WAITING = "too_many_waiting"
    QUEUE_FULL = "queue_full"
    NOT_DELIVERED = "not_delivered"
    NOT_ACKNOWLEDGED = "not_acknowledged"
    DISCONNECTED = "disconnected"
    ERROR = "error"


class Limit(StrEnum):
    """The limit by which a connection was closed."""

    CONNECTIONS = "connections"
    HEADER_TIME = "header_time"


class PublishResult(StrEnum):
    """What became of an event that was handed to the Kafka client."""

    DELIVERED = "delivered"
    FAILED = "failed"


class RedisOperation(StrEnum):
    """What Redis was asked for."""

    BEFORE = "before"
    """Marks and locks, before the transaction of a batch."""
    AFTER = "after"
    """Entries, marks and locks, after its COMMIT."""
    SWEEP = "sweep"
    """Entries to drop that no batch has confirmed."""
    GET = "get"
    """A cached answer."""
    LEASE = "lease"
    """The right to store an answer."""
    FILL = "fill"
    """To store an answer."""


class EventType(StrEnum):
    """The types of events that are counted under their own name."""

    CHECKOUT_ASYNC_FAILED = "checkout.session.async_payment_failed"
    CHECKOUT_ASYNC_SUCCEEDED = "checkout.session.async_payment_succeeded"
    CHECKOUT_COMPLETED = "checkout.session.completed"
    CHECKOUT_EXPIRED = "checkout.session.expired"
    CUSTOMER_CREATED = "customer.created"
    CUSTOMER_DELETED = "customer.deleted"
    CUSTOMER_UPDATED = "customer.updated"
    SUBSCRIPTION_CREATED = "customer.subscription.created"
    SUBSCRIPTION_DELETED = "customer.subscription.deleted"
    SUBSCRIPTION_PAUSED = "customer.subscription.paused"
    SUBSCRIPTION_PENDING_APPLIED = "customer.subscription.pending_update_applied"
    SUBSCRIPTION_PENDING_EXPIRED = "customer.subscription.pending_update_expired"
    SUBSCRIPTION_RESUMED = "customer.subscription.resumed"
    SUBSCRIPTION_TRIAL_WILL_END = "customer.subscription.trial_will_end"
    SUBSCRIPTION_UPDATED = "customer.subscription.updated"
    INVOICE_CREATED = "invoice.created"
    INVOICE_FINALIZED = "invoice.finalized"
    INVOICE_PAID = "invoice.paid"
    INVOICE_ACTION_REQUIRED = "invoice.payment_action_required"
    INVOICE_PAYMENT_FAILED = "invoice.payment_failed"
    INVOICE_PAYMENT_SUCCEEDED = "invoice.payment_succeeded"
    INVOICE_UPCOMING = "invoice.upcoming"
    INVOICE_UPDATED = "invoice.updated"
    INVOICE_VOIDED = "invoice.voided"
    OTHER = "other"


class Outcome(StrEnum):
    """What became of an event; stands in webhook_events.outcome."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    IGNORED = "ignored"
    FAILED = "failed"


class EventReason(StrEnum):
    """Why an event's outcome is not `applied`; stands in webhook_events.reason."""

    NONE = ""
    ALREADY_ENDED = "already_ended"
    SUPERSEDED = "superseded"
    NOT_LATEST_INVOICE = "not_latest_invoice"
    SAME_FACT = "same_fact"
    TYPE = "type"
    NO_SUBSCRIPTION = "no_subscription"
    NO_CUSTOMER = "no_customer"
    MANUAL_INVOICE = "manual_invoice"
    UNDECODABLE = "undecodable"
    UNSIGNED = "unsigned"
    HANDLER = "handler"
    DATA = "data"


class LetterReason(StrEnum):
    """Why a record was set aside; stands in dead_letters.reason."""

    UNDECODABLE = "undecodable"
    UNSIGNED = "unsigned"
    HANDLER = "handler"
    DATA = "data"


class Layer(StrEnum):
    """Who knew that an event was applied already."""

    BATCH = "batch"
    REDIS = "redis"
    POSITION = "position"
    EVENT_ID = "event_id"


class Verdict(StrEnum):
    """What became of a batch: applied, or why it is tried again."""

    APPLIED = "applied"
    CONTENTION = "contention"
    BLOCKED = "blocked"
    AWAY = "away"
    KAFKA = "kafka"
    POSITION = "position"


class Phase(StrEnum):
    """A part of a batch, by the steps of consumer/batch.py."""

    DECODE = "decode"
    REDIS_BEFORE = "redis_before"
    TRANSACTION = "transaction"
    REDIS_AFTER = "redis_after"


class Rebalance(StrEnum):
    """What a rebalance did to this process."""

    ASSIGNED = "assigned"
    REVOKED = "revoked"
    LOST = "lost"


class Source(StrEnum):
    """Where an entitlement came from."""

    CACHE = "cache"
    DATABASE = "database"
    NONE = "none"
    """There was none to give."""


class Look(StrEnum):
    """What a look into the cache found."""

    HIT = "hit"
    MISS = "miss"
    UNREADABLE = "unreadable"
    """An entry of another version of hookline."""
    UNKNOWN = "unknown"
    """Redis did not say."""


class LeaseOutcome(StrEnum):
    """What became of the lease that a miss asked for."""

    FILLED = "filled"
    HELD = "held"
    """Another reader has it."""
    LOST = "lost"
    """The customer changed meanwhile, so nothing was stored."""
    UNKNOWN = "unknown"
    """Redis did not say."""


class StripeTask(StrEnum):
    """What a consumer asks of Stripe by itself."""

    TIES = "ties"
    RECONCILE = "reconcile"
    VERIFY = "verify"


class DriftKind(StrEnum):
    """Why a stored subscription is not as Stripe has it."""

    EVENT_MISSING = "event_missing"
    """Stripe knows of a change that no recorded event tells of."""
    EVENT_NOT_APPLIED = "event_not_applied"
    """The event came, and is set aside or has no effect."""
    TIE_DECIDED_WRONGLY = "tie_decided_wrongly"
    """Two states bear the same second, and the other one is the last."""
    PLAN_UNMAPPED = "plan_unmapped"
    """It is not over, and no price of it stands in the plans file."""
    ROW_CHANGED = "row_changed"
    """The row is not what its own events say."""
    NOT_AT_STRIPE = "not_at_stripe"
    """Stripe has no such subscription."""
    UNREADABLE = "unreadable"
    """What Stripe answers of it cannot be read or stored."""


class ByVersion(NamedTuple):
    """Label of a build: the one text that is not from a list."""

    version: str


class ByRequest(NamedTuple):
    """Labels of a request."""

    answer: Status
    reason: RequestReason


class ByLimit(NamedTuple):
    """Label of a refused connection."""

    limit: Limit


class ByResult(NamedTuple):
    """Label of a publication."""

    result: PublishResult


class BySecret(NamedTuple):
    """Label of a secret: its position, from 1; there are eight at most."""

    position: int


class ByOperation(NamedTuple):
    """Label of a question to Redis."""

    operation: RedisOperation


class ByEvent(NamedTuple):
    """Labels of an event."""

    type: EventType
    outcome: Outcome
    reason: EventReason


class ByLetter(NamedTuple):
    """Label of a dead letter."""

    reason: LetterReason


class ByLayer(NamedTuple):
    """Label of a repeated delivery."""

    layer: Layer


class ByVerdict(NamedTuple):
    """Label of a batch."""

    verdict: Verdict


class ByPhase(NamedTuple):
    """Label of a part of a batch."""

    phase: Phase


class ByPartition(NamedTuple):
    """Label of a partition of the topic."""

    partition: int


class ByRebalance(NamedTuple):
    """Label of a rebalance."""

    change: Rebalance


class ByAnswer(NamedTuple):
    """Labels of the gatekeeper's answer."""

    answer: Status
    source: Source


class BySource(NamedTuple):
    """Label of an entitlement."""

    source: Source


class ByLook(NamedTuple):
    """Label of a look into the cache."""

    result: Look


class ByLease(NamedTuple):
    """Label of a lease."""

    outcome: LeaseOutcome


class ByTask(NamedTuple):
    """Label of what is asked of Stripe."""

    task: StripeTask


class ByDrift(NamedTuple):
    """Label of a difference from Stripe."""

    kind: DriftKind
