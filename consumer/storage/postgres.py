"""The ledger on PostgreSQL: one connection, and a batch's transaction on it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date, datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from consumer.errors import Cause, Reject, Retry, verdict_of
from consumer.storage import (
    dead_letters,
    grace,
    invalidation,
    partitions,
    positions,
    statements,
    stored_letters,
    tiers,
)
from consumer.storage.blockers import ending_blockers
from consumer.storage.dead_letters import DeadLetter, Recent, Standing
from consumer.storage.grace import Expired
from consumer.storage.ledger import (
    Overdue,
    RecordedEvent,
    Row,
    StoredCustomer,
    StoredSubscription,
)
from consumer.storage.positions import Position
from consumer.storage.stored_letters import Failure
from schemas.plans import Plans


class PostgresLedger:
    """One process's connection to PostgreSQL, opened when needed and again after a failure."""

    def __init__(self, engine: Engine, on_ended: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._on_ended = on_ended
        self._connection: Connection | None = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Lend the connection; a database error leaves as its verdict, the connection closed.

        Raises Retry, Reject or Halt.
        """
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            yield self._connection
        except (DBAPIError, psycopg.Error) as error:
            verdict = verdict_of(error)
            if _is_broken(error) or not _is_contention(verdict):
                self.close()
            raise verdict from error
        except UnicodeEncodeError as error:
            # psycopg lets it out as it is: a text with half of a surrogate pair.
            raise Reject(f"a text that UTF-8 cannot spell: {error.reason}") from error

    @contextmanager
    def transaction(self) -> Iterator["PostgresTransaction"]:
        """Run a transaction: commit at the end, roll back on any exception. Raises as connect."""
        with self.connect() as connection, connection.begin():
            yield PostgresTransaction(connection)

    def ending_blockers(self) -> AbstractContextManager[None]:
        """While open, end sessions of our own role that have long kept this one waiting."""
        if self._connection is None:
            return nullcontext()
        driver: Any = self._connection.connection.driver_connection
        return ending_blockers(self._engine, driver.info.backend_pid, self._on_ended)

    def close(self) -> None:
        """Close the connection, whatever state it is in; safe to repeat."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


class PostgresTransaction:
    """A batch's transaction on an open connection; what each call promises stands in ledger.py."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- positions

    def load_positions(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        """Return the stored positions of these partitions; one without any is absent."""
        return positions.load_rows(self._connection, group, topic, partitions)

    def lock_positions(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        """Lock the rows of these partitions in order, and return them."""
        return positions.lock_rows(self._connection, group, topic, partitions)

    def insert_positions(self, group: str, topic: str, new: Sequence[Position]) -> None:
        """Store first positions; one that exists by now stays as it is."""
        positions.insert_rows(self._connection, group, topic, new)

    def move_positions(
        self,
        group: str,
        topic: str,
        before: Mapping[int, Position],
        after: Mapping[int, Position],
    ) -> int:
        """Set those positions that are as they were before; return how many."""
        return positions.move_rows(self._connection, group, topic, before, after)

    # --- events, customers, subscriptions

    def lock_customers(self, ids: Collection[str]) -> dict[str, StoredCustomer]:
        """Add the customers that are missing and lock all of them, in order."""
        return statements.lock_customers(self._connection, ids)

    def find_recorded(self, created: Mapping[str, datetime]) -> dict[str, RecordedEvent]:
        """Return what stands recorded of these event ids, each with its `created`."""
        return statements.find_recorded(self._connection, created)

    def load_subscriptions(self, ids: Collection[str]) -> dict[str, StoredSubscription]:
        """Return the subscriptions of these ids that are stored."""
        return statements.load_subscriptions(self._connection, ids)

    def write_events(self, rows: Sequence[Row]) -> None:
        """Record events with their outcome; one that had failed gets the new outcome."""
        statements.write_events(self._connection, rows)

    def write_subscriptions(self, rows: Sequence[Row]) -> None:
        """Write subscriptions whose customers this transaction has locked."""
        statements.write_subscriptions(self._connection, rows)

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Write customers that this transaction has locked."""
        statements.write_customers(self._connection, rows)

    def write_audit(self, rows: Sequence[Row]) -> None:
        """Append audit entries in the order given."""
        statements.write_audit(self._connection, rows)

    # --- dead letters

    def write_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Set records aside; one that is open already counts an attempt."""
        dead_letters.write_letters(self._connection, letters)

    def resolve_letters(self, event_ids: Sequence[str]) -> None:
        """Close the open dead letters of events that are applied now."""
        dead_letters.resolve_letters(self._connection, event_ids)

    def close_letters(self, ids: Sequence[int]) -> None:
        """Close these dead letters; one that is closed stays as it is."""
        stored_letters.close_letters(self._connection, ids)

    def note_failures(self, failures: Sequence[Failure]) -> set[int]:
        """Count a failed replay of these open dead letters; return the ids that were open."""
        return stored_letters.note_failures(self._connection, failures)

    def count_recent(self) -> Recent:
        """Read how many dead letters point at a fault of ours; restarts do not reset it."""
        return dead_letters.count_recent(self._connection)

    def read_standing(self) -> Standing:
        """Read how many dead letters are open, since when, and when one was last seen to."""
        return dead_letters.read_standing(self._connection)

    # --- cache entries to drop

    def record_invalidation(self, customers: Sequence[str]) -> int:
        """Note that these customers' cache entries must go; return the row's id."""
        return invalidation.record_invalidation(self._connection, customers)

    def delete_invalidations(self, ids: Sequence[int]) -> None:
        """Forget rows whose entries are gone."""
        invalidation.delete_rows(self._connection, ids)

    def take_overdue(self, most: int) -> dict[int, list[str]]:
        """Lock rows older than 0.75 s that nobody else has locked; return their customers."""
        return invalidation.take_overdue(self._connection, most)

    def expire_invalidations(self, seconds: float) -> None:
        """Forget rows that are older than that."""
        invalidation.expire_rows(self._connection, seconds)

    def count_overdue(self) -> Overdue:
        """Count the rows older than a second."""
        return Overdue(*invalidation.count_overdue(self._connection))

    # --- time

    def expire_graces(self, since: datetime | None, most: int) -> Expired:
        """Write `grace_period_expired` once for each grace period that ended after a moment."""
        return grace.expire_graces(self._connection, since, most)

    # --- once a day

    def write_tiers(self, plans: Plans) -> None:
        """Make the tiers that SQL users see equal the plans; safe to repeat."""
        tiers.write_tiers(self._connection, plans)

    def attach_months(self, today: date) -> None:
        """Make room for the events of the months ahead; safe to repeat."""
        partitions.attach_months(self._connection, today)


def _is_contention(verdict: Exception) -> bool:
    """Tell whether the connection is as good as before.

    One that takes no writes, for instance, would take none for ever, whatever is put right.
    """
    return isinstance(verdict, Retry) and verdict.cause in {Cause.CONTENTION, Cause.BLOCKED}


def _is_broken(error: DBAPIError | psycopg.Error) -> bool:
    return isinstance(error, psycopg.Error) or error.connection_invalidated
