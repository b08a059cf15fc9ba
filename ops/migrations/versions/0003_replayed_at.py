"""Remember when a replay last failed on a dead letter, apart from when a consumer did.

Consumers halt when many of their own failures are recent; a replay's must not count as those.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, null for all that stands."""
    op.execute("ALTER TABLE dead_letters ADD COLUMN replayed_at timestamptz")
    op.execute("COMMENT ON COLUMN dead_letters.replayed_at IS 'when a replay last failed on it'")
