"""Remember how far a backfill is, and whether one was ever completed; find ties quickly."""

from alembic import op

revision = "0004"
down_revision = "0003"

DDL = """
CREATE TABLE stripe_tasks (
    task TEXT NOT NULL,
    cursor JSONB NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (task)
);

COMMENT ON TABLE stripe_tasks IS 'how far the commands are that ask Stripe''s API';

COMMENT ON COLUMN stripe_tasks.task IS 'backfill, reconcile or verify';

COMMENT ON COLUMN stripe_tasks.cursor IS 'where an unfinished run goes on';

COMMENT ON COLUMN stripe_tasks.completed_at IS 'when a run last came to its end';

CREATE INDEX subscriptions_ambiguous ON subscriptions (updated_at) WHERE ambiguous;
"""


def upgrade() -> None:
    """Make the table and the index."""
    op.execute(DDL)
