"""Cache entries to drop: a row in the batch's transaction makes certain that it happens.

The batch drops the entries itself right after its commit; what it could not confirm, the
sweeper repeats until Redis has answered. Nobody but a reader ever stores an entry.
"""

from collections.abc import Sequence

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

_INSERT = text(
    "INSERT INTO cache_invalidations (customers) VALUES (:customers) RETURNING invalidation_id"
)
_DELETE = text("DELETE FROM cache_invalidations WHERE invalidation_id = ANY(:ids)")
_OVERDUE = text("""
SELECT invalidation_id, customers FROM cache_invalidations
WHERE created_at < now() - interval '1 second'
ORDER BY invalidation_id LIMIT :rows FOR UPDATE SKIP LOCKED
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
    """Lock rows older than a second that nobody else has locked; return their customers."""
    rows = connection.execute(_OVERDUE, {"rows": most})
    return {row.invalidation_id: row.customers for row in rows}


def expire_rows(connection: Connection, seconds: float) -> None:
    """Forget rows that are older than that."""
    connection.execute(_EXPIRE, {"seconds": seconds})


def drop_entries(pipeline: Pipeline, generation: str, customers: list[str]) -> None:
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

    def sweep(self, transaction: Transaction) -> None:
        """Delete confirmed rows, and drop the entries of rows older than a second.

        Safe in any number of processes at once; the caller commits.
        """
        confirmed, self._confirmed = self._confirmed, []
        if confirmed:
            transaction.delete_invalidations(confirmed)
        overdue = transaction.take_overdue(SWEEP_ROWS)
        if not overdue:
            return
        customers = sorted({customer for some in overdue.values() for customer in some})
        if self._redis.ask(RedisOperation.SWEEP, lambda session: _drop(session, customers)):
            transaction.delete_invalidations(list(overdue))
        else:
            transaction.expire_invalidations(ENTRY_GONE_SECONDS)


def _drop(session: Session, customers: list[str]) -> bool:
    pipeline = session.client.pipeline(transaction=False)
    drop_entries(pipeline, session.generation, customers)
    pipeline.execute()
    return True
