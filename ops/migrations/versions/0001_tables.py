"""Create the tables of the first release."""

from alembic import op

revision = "0001"
down_revision = None

DDL = """
CREATE TABLE billing_audit (
    audit_id BIGINT GENERATED ALWAYS AS IDENTITY,
    event_id TEXT NOT NULL,
    customer_id TEXT,
    subscription_id TEXT,
    action TEXT NOT NULL,
    before JSONB,
    after JSONB,
    event_created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (audit_id)
);

CREATE INDEX billing_audit_customer ON billing_audit (customer_id, audit_id);

CREATE INDEX billing_audit_event ON billing_audit (event_id);

CREATE TABLE cache_invalidations (
    invalidation_id BIGINT GENERATED ALWAYS AS IDENTITY,
    customers TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (invalidation_id)
);

CREATE TABLE consumer_positions (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    epoch BIGINT DEFAULT 0 NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
);

COMMENT ON COLUMN consumer_positions.topic_id IS 'another id: the topic was made again';

CREATE TABLE customers (
    customer_id TEXT NOT NULL,
    reference TEXT,
    reference_created_at TIMESTAMP WITH TIME ZONE,
    reference_event_id TEXT,
    version BIGINT DEFAULT 0 NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (customer_id)
);

CREATE INDEX customers_reference ON customers (reference) WHERE reference IS NOT NULL;

CREATE TABLE dead_letters (
    dead_letter_id BIGINT GENERATED ALWAYS AS IDENTITY,
    event_id TEXT,
    customer_id TEXT,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER DEFAULT 1 NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    key BYTEA,
    headers JSONB NOT NULL,
    body BYTEA,
    first_failed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_failed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (dead_letter_id)
);

CREATE UNIQUE INDEX dead_letters_open_event ON dead_letters (event_id)
    WHERE event_id IS NOT NULL AND resolved_at IS NULL;

CREATE UNIQUE INDEX dead_letters_open_record ON dead_letters (topic, partition, kafka_offset)
    WHERE event_id IS NULL AND resolved_at IS NULL;

CREATE INDEX dead_letters_recent ON dead_letters (last_failed_at);

COMMENT ON COLUMN dead_letters.event_id IS 'null where nobody vouches for the id';

COMMENT ON COLUMN dead_letters.headers IS '[[name, base64 of the value], …]';

COMMENT ON COLUMN dead_letters.body IS 'the exact bytes; null for a record without a value';

CREATE TABLE plan_tiers (
    tier TEXT NOT NULL,
    rank SMALLINT NOT NULL,
    is_default BOOLEAN NOT NULL,
    PRIMARY KEY (tier)
);

COMMENT ON COLUMN plan_tiers.rank IS '0 is the lowest';

COMMENT ON TABLE plan_tiers IS 'the tiers of the plans file, for the view customer_entitlements';

CREATE TABLE subscriptions (
    subscription_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    status TEXT NOT NULL,
    tier TEXT NOT NULL,
    prices TEXT[] NOT NULL,
    cancel_at_period_end BOOLEAN NOT NULL,
    cancel_at TIMESTAMP WITH TIME ZONE,
    current_period_end TIMESTAMP WITH TIME ZONE,
    latest_invoice TEXT,
    grace_until TIMESTAMP WITH TIME ZONE,
    ambiguous BOOLEAN NOT NULL,
    facts JSONB NOT NULL,
    version BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (subscription_id)
);

CREATE INDEX subscriptions_customer ON subscriptions (customer_id);

CREATE INDEX subscriptions_grace ON subscriptions (grace_until) WHERE grace_until IS NOT NULL;

CREATE TABLE webhook_events (
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    customer_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    processed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    livemode BOOLEAN NOT NULL,
    api_version TEXT,
    outcome TEXT NOT NULL,
    reason TEXT,
    error TEXT,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    kafka_offset BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    PRIMARY KEY (created_at, event_id),
    CONSTRAINT webhook_events_outcome
        CHECK (outcome IN ('applied', 'unchanged', 'ignored', 'failed'))
)
PARTITION BY RANGE (created_at);

CREATE INDEX webhook_events_customer ON webhook_events (customer_id, created_at);

CREATE INDEX webhook_events_processed ON webhook_events USING brin (processed_at);

COMMENT ON COLUMN webhook_events.payload IS 'the body as signed, zstd';

ALTER TABLE webhook_events ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE webhook_events_other (LIKE webhook_events INCLUDING ALL);

ALTER TABLE webhook_events ATTACH PARTITION webhook_events_other DEFAULT;

CREATE VIEW customer_entitlements AS
SELECT
    customer.customer_id,
    customer.reference,
    CASE WHEN deciding.entitled THEN deciding.tier
         ELSE (SELECT tier FROM plan_tiers WHERE is_default) END AS tier,
    coalesce(deciding.entitled, false) AS entitled,
    deciding.status,
    deciding.grace_until
FROM customers AS customer
LEFT JOIN LATERAL (
    SELECT
        owned.tier,
        owned.status,
        owned.grace_until,
        owned.status IN ('active', 'trialing')
            OR (owned.status = 'past_due' AND coalesce(now() < owned.grace_until, false))
            AS entitled
    FROM subscriptions AS owned
    LEFT JOIN plan_tiers AS plan ON plan.tier = owned.tier
    WHERE owned.customer_id = customer.customer_id
    ORDER BY
        entitled DESC,
        owned.status NOT IN ('canceled', 'incomplete_expired') DESC,
        plan.rank DESC NULLS LAST,
        owned.current_period_end DESC NULLS LAST,
        owned.subscription_id COLLATE "C" DESC
    LIMIT 1
) AS deciding ON true;
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(DDL)
