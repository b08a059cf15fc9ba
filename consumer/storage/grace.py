"""Grace periods that have ended: the one thing that happens without an event.

PostgreSQL's clock decides, so a process whose own is wrong writes nothing too early or twice. The
audit trail alone is written: no row of state says whether a grace period is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

GRACE_EVENT = "grace_"
"""What the id of such an entry's event begins with; subscription and second follow."""

_EVENT_ID = """
  'grace_' || owned.subscription_id || '_' || CAST(extract(epoch FROM owned.grace_until) AS bigint)
"""
_ENTRY = f"""
  SELECT FROM billing_audit AS entry
  WHERE entry.event_id = {_EVENT_ID} AND entry.action = 'grace_period_expired'
"""
_LOCK = text(f"""
SELECT subscription_id FROM subscriptions AS owned
WHERE grace_until <= now()
  AND grace_until > coalesce(CAST(:since AS timestamptz), '-infinity')
  AND NOT EXISTS ({_ENTRY})
ORDER BY grace_until, subscription_id LIMIT :most FOR UPDATE SKIP LOCKED
""")  # noqa: S608 - same
# A statement of its own: the one that locks does not see what was committed while it ran.
_WRITE = text(f"""
INSERT INTO billing_audit
  (event_id, customer_id, subscription_id, action, before, after, event_created_at)
SELECT {_EVENT_ID}, customer_id, subscription_id, 'grace_period_expired',
  '{{"entitled": true}}', '{{"entitled": false}}', grace_until
FROM subscriptions AS owned
WHERE subscription_id = ANY(CAST(:ids AS text[])) AND NOT EXISTS ({_ENTRY})
ORDER BY grace_until, subscription_id
RETURNING customer_id
""")  # noqa: S608 - same


@dataclass(frozen=True, slots=True)
class Expired:
    """What one look found: whose grace period ended, and whether more may have."""

    customers: Sequence[str]
    now: datetime
    """By the database's clock: up to there all is written that was not locked, unless `more`."""
    more: bool


def expire_graces(connection: Connection, since: datetime | None, most: int) -> Expired:
    """Write `grace_period_expired` once for each grace period that ended after a moment.

    What another transaction has locked is left for the next look. Safe in any number of processes.
    """
    now: datetime = connection.scalar(text("SELECT now()"))
    ended = connection.execute(_LOCK, {"since": since, "most": most}).all()
    if not ended:
        return Expired((), now, more=False)
    ids = [row.subscription_id for row in ended]
    written = connection.scalars(_WRITE, {"ids": ids})
    return Expired(sorted(set(written)), now, more=len(ended) == most)
