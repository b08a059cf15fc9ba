"""Cache entries to drop: a row in the batch's transaction makes certain that it happens.

The batch drops the entries itself right after its commit; what it could not confirm, the
sweeper repeats until Redis has answered. Nobody but a reader ever stores an entry.
"""

from collections.abc import Sequence
from functools import partial

from redis.client import Pipeline
from sqlalchemy import Connection, text

from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.ledger import Transaction
from consumer.storage.redis_session import Session
from schemas.labels import RedisOperation
from schemas.redis_keys import ENTITLEMENT_SECONDS, entitlement_key, lease_key

ENTRY_GONE_SECONDS = ENTITLEMENT_SECONDS + 30
"""Longer than any entry lives: from then on there is nothing left to drop."""

SWEEP_ROWS = 100
SWEEP_CUSTOMERS = 1_000
"""In one call to Redis: more could take longer than its limit."""

_INSERT = text(
    "INSERT INTO cache_invalidations (customers) VALUES (:customers) RETURNING invalidation_id"
)
_DELETE = text("DELETE FROM cache_invalidations WHERE invalidation_id = ANY(:ids)")
# So that it is two seconds at most with a sweep every second.
_OVERDUE = text("""
SELECT invalidation_id, customers FROM cache_invalidations
WHERE created_at < now() - interval '0.75 seconds'
ORDER BY invalidation_id LIMIT :rows FOR UPDATE SKIP LOCKED
""")
_COUNT = text("""
SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
FROM cache_invalidations WHERE created_at < now() - interval '1 second'
""")
_EXPIRE = text("""
DELETE FROM cache_invalidations
WHERE created_at < now() - make_interval(secs => CAST(:seconds AS float8))
""")


def record_invalidation(connection: Connection, customers: Sequence[str]) -> int:
    """Note in the open transaction that these customers' entries must go; return the row's id."""
    return int(connection.scalar(_INSERT, {"customers": list(customers)}) or 0)


def delete_rows(connection: Connection, ids: Sequence[int]) -> None:
    """Forget rows whose entries are gone."""
    connection.execute(_DELETE, {"ids": list(ids)})


def take_overdue(connection: Connection, most: int) -> dict[int, list[str]]:
    """Lock rows older than 0.75 s that nobody else has locked; return their customers."""
    rows = connection.execute(_OVERDUE, {"rows": most})
    return {row.invalidation_id: row.customers for row in rows}


def expire_rows(connection: Connection, seconds: float) -> None:
    """Forget rows that are older than that."""
    connection.execute(_EXPIRE, {"seconds": seconds})


def count_overdue(connection: Connection) -> tuple[int, float]:
    """Return how many rows are older than a second, and how old the oldest is in seconds."""
    rows, oldest = connection.execute(_COUNT).one()
    return rows, oldest


def drop_entries(pipeline: Pipeline, generation: str, customers: Sequence[str]) -> None:
    """Queue the deletion of these customers' entries and leases."""
    keys = [entitlement_key(generation, customer) for customer in customers]
    leases = [lease_key(generation, customer) for customer in customers]
    pipeline.unlink(*keys, *leases)


class Sweeper:
    """Drops what no batch has confirmed."""

    def __init__(self, redis: BoundedRedis) -> None:
        self._redis = redis
        self._confirmed: list[int] = []

    def confirm(self, invalidation_id: int) -> None:
        """Note that Redis has dropped this row's entries; the next sweep deletes the row."""
        self._confirmed.append(invalidation_id)

    def probe(self) -> None:
        """See whether a Redis that is left alone is back; to be called every second."""
        self._redis.probe()

    def drop(self, invalidation_id: int, customers: Sequence[str]) -> None:
        """Drop the entries of a row that is committed, and confirm it if Redis does."""
        if self._drop(customers):
            self.confirm(invalidation_id)

    def sweep(self, transaction: Transaction) -> bool:
        """Delete confirmed rows, and drop the entries of rows older than 0.75 s.

        Returns whether there may be more of them. Safe in any number of processes at once; the
        caller commits.
        """
        confirmed, self._confirmed = self._confirmed, []
        if confirmed:
            transaction.delete_invalidations(confirmed)
        overdue = transaction.take_overdue(SWEEP_ROWS)
        if not overdue:
            return False
        if self._drop(sorted({customer for some in overdue.values() for customer in some})):
            transaction.delete_invalidations(list(overdue))
            return len(overdue) == SWEEP_ROWS
        transaction.expire_invalidations(ENTRY_GONE_SECONDS)
        return False

    def _drop(self, customers: Sequence[str]) -> bool:
        parts = (
            customers[first : first + SWEEP_CUSTOMERS]
            for first in range(0, len(customers), SWEEP_CUSTOMERS)
        )
        return all(
            self._redis.ask(RedisOperation.SWEEP, partial(_drop, customers=part)) for part in parts
        )


def _drop(session: Session, customers: Sequence[str]) -> bool:
    pipeline = session.client.pipeline(transaction=False)
    drop_entries(pipeline, session.generation, customers)
    pipeline.execute()
    return True
