"""Record what retention and erasure remove, so that a check can tell it from what was lost."""

from alembic import op

revision = "0005"
down_revision = "0004"

DDL = """
CREATE TABLE removals (
    removal_id BIGINT GENERATED ALWAYS AS IDENTITY,
    customer_id TEXT,
    created_before TIMESTAMP WITH TIME ZONE NOT NULL,
    events BIGINT NOT NULL,
    dead_letters BIGINT NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (removal_id)
);

COMMENT ON TABLE removals IS 'what was removed on purpose, so that nobody takes it for lost';

COMMENT ON COLUMN removals.customer_id IS 'who was erased; null: months dropped by retention';

COMMENT ON COLUMN removals.created_before IS 'events created before are gone';

CREATE INDEX removals_customer ON removals (customer_id);
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(DDL)
