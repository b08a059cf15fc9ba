"""PostgreSQL tables that processes and other programs rely on; no I/O.

The migrations in ops/migrations make them; a test compares the two. Times are timestamptz.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

Time = DateTime(timezone=True)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("event_id", Text),
    Column("type", Text, nullable=False),
    Column("customer_id", Text),
    # Part of the key because it is what the table is partitioned by; Stripe never changes it.
    Column("created_at", Time),
    Column("received_at", Time, nullable=False),
    Column("processed_at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("livemode", Boolean, nullable=False),
    Column("api_version", Text),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("error", Text),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("kafka_offset", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False, comment="the body as signed, zstd"),
    PrimaryKeyConstraint("created_at", "event_id"),
    CheckConstraint(
        "outcome IN ('applied', 'unchanged', 'ignored', 'failed')", name="webhook_events_outcome"
    ),
    Index("webhook_events_customer", "customer_id", "created_at"),
    # Small and cheap to keep: rows are written in the order of this column.
    Index("webhook_events_processed", "processed_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (created_at)",
)

customers = Table(
    "customers",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("reference", Text),
    # The reference is the one of the least (created, event id), so these decide the next merge.
    Column("reference_created_at", Time),
    Column("reference_event_id", Text),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("updated_at", Time, nullable=False, server_default=func.now()),
    Index("customers_reference", "reference", postgresql_where=text("reference IS NOT NULL")),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscription_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("prices", ARRAY(Text), nullable=False),
    Column("cancel_at_period_end", Boolean, nullable=False),
    Column("cancel_at", Time),
    Column("current_period_end", Time),
    Column("latest_invoice", Text),
    Column("grace_until", Time),
    Column("ambiguous", Boolean, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", Time, nullable=False, server_default=func.now()),
    Index("subscriptions_customer", "customer_id"),
    Index(
        "subscriptions_grace",
        "grace_until",
        postgresql_where=text("grace_until IS NOT NULL"),
    ),
    # Few at any time: what a re-fetch from Stripe's API may settle.
    Index("subscriptions_ambiguous", "updated_at", postgresql_where=text("ambiguous")),
)

plan_tiers = Table(
    "plan_tiers",
    metadata,
    Column("tier", Text, primary_key=True),
    Column("rank", SmallInteger, nullable=False, comment="0 is the lowest"),
    Column("is_default", Boolean, nullable=False),
    comment="the tiers of the plans file, for the view customer_entitlements",
)

billing_audit = Table(
    "billing_audit",
    metadata,
    Column("audit_id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("customer_id", Text),
    Column("subscription_id", Text),
    Column("action", Text, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("event_created_at", Time, nullable=False),
    Column("recorded_at", Time, nullable=False, server_default=func.now()),
    Index("billing_audit_customer", "customer_id", "audit_id"),
    Index("billing_audit_event", "event_id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("dead_letter_id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Text, comment="null where nobody vouches for the id"),
    Column("customer_id", Text),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("kafka_offset", BigInteger, nullable=False),
    Column("key", LargeBinary),
    Column("headers", JSONB, nullable=False, comment="[[name, base64 of the value], …]"),
    Column("body", LargeBinary, comment="the exact bytes; null for a record without a value"),
    Column("first_failed_at", Time, nullable=False, server_default=func.now()),
    Column("last_failed_at", Time, nullable=False, server_default=func.now()),
    Column("resolved_at", Time),
    # Not last_failed_at: an operator who tries again must not make the consumers halt.
    Column("replayed_at", Time, comment="when a replay last failed on it"),
    Index(
        "dead_letters_open_event",
        "event_id",
        unique=True,
        postgresql_where=text("event_id IS NOT NULL AND resolved_at IS NULL"),
    ),
    Index(
        "dead_letters_open_record",
        "topic",
        "partition",
        "kafka_offset",
        unique=True,
        postgresql_where=text("event_id IS NULL AND resolved_at IS NULL"),
    ),
    Index("dead_letters_recent", "last_failed_at"),
)

cache_invalidations = Table(
    "cache_invalidations",
    metadata,
    Column("invalidation_id", BigInteger, Identity(always=True), primary_key=True),
    Column("customers", ARRAY(Text), nullable=False),
    Column("created_at", Time, nullable=False, server_default=func.now()),
)

consumer_positions = Table(
    "consumer_positions",
    metadata,
    Column("consumer_group", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("topic_id", Text, nullable=False, comment="another id: the topic was made again"),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
)

stripe_tasks = Table(
    "stripe_tasks",
    metadata,
    Column("task", Text, primary_key=True, comment="backfill, reconcile or verify"),
    Column("cursor", JSONB, nullable=False, comment="where an unfinished run goes on"),
    Column("started_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    Column("completed_at", Time, comment="when a run last came to its end"),
    comment="how far the commands are that ask Stripe's API",
)

removals = Table(
    "removals",
    metadata,
    Column("removal_id", BigInteger, Identity(always=True), primary_key=True),
    Column("customer_id", Text, comment="who was erased; null: months dropped by retention"),
    Column("created_before", Time, nullable=False, comment="events created before are gone"),
    Column("events", BigInteger, nullable=False),
    Column("dead_letters", BigInteger, nullable=False),
    Column("removed_at", Time, nullable=False, server_default=func.now()),
    Index("removals_customer", "customer_id"),
    comment="what was removed on purpose, so that nobody takes it for lost",
)
