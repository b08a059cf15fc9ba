"""Let processed_at be when an event's row was written, not when its batch began.

A batch waits for locks, reads and folds before it writes; receipt to commit is measured by this.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change the default; existing rows stay as they are."""
    op.execute("ALTER TABLE webhook_events ALTER processed_at SET DEFAULT clock_timestamp()")
