"""Rows in memory with what matters of PostgreSQL: row locks, READ COMMITTED, roll back, restore.

A row is an immutable mapping, named by table and key. A transaction keeps what it wrote to
itself until it commits; a key it wrote or locked makes every other writer of that key wait.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from consumer.errors import Cause, Reject, Retry
from consumer.storage.engine import IDLE_IN_TRANSACTION_MS, LOCK_TIMEOUT_MS
from support.twins.turns import Turns

Key = tuple[str, Hashable]
"""Table, and what is unique in it."""

Row = Mapping[str, Any]
Refuses = Callable[[str, Row], bool]


class Database:
    """What is committed, and who holds which row."""

    def __init__(
        self, turns: Turns, wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.turns = turns
        self.wall = wall
        self.tables: dict[str, dict[Hashable, Row]] = {}
        self.refuses: Refuses = lambda _table, _row: False
        """Constraints of a test's own: rows that are refused as PostgreSQL refuses data."""
        self.holders: dict[Key, Session] = {}
        self.sessions: list[Session] = []
        self._numbers = 0

    def next_number(self) -> int:
        """Return a number that is never returned again, rolled back or not."""
        self._numbers += 1
        return self._numbers

    def rows(self, table: str) -> dict[Hashable, Row]:
        """Return the committed rows of a table."""
        return self.tables.setdefault(table, {})

    def snapshot(self) -> dict[str, dict[Hashable, Row]]:
        """Return what is committed now; later commits leave it alone."""
        return {table: dict(rows) for table, rows in self.tables.items()}

    def restore(self, snapshot: dict[str, dict[Hashable, Row]]) -> None:
        """Go back to a snapshot: open transactions are gone, connections do not notice."""
        for session in list(self.sessions):
            session.end()
        self.tables = {table: dict(rows) for table, rows in snapshot.items()}

    def end_idle(self) -> None:
        """End transactions whose process has not spoken for as long as PostgreSQL waits."""
        latest = self.turns.now() - IDLE_IN_TRANSACTION_MS / 1000
        for session in list(self.sessions):
            if session.heard < latest and not session.is_detached:
                session.end()


class Session:
    """One open transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written: dict[Key, Row | None] = {}
        self._held: dict[Key, None] = {}
        self.is_open = True
        self.is_detached = False
        """Whether COMMIT is on its way although its caller has given up."""
        self.heard = database.turns.now()
        database.sessions.append(self)

    def speak(self) -> None:
        """Begin a statement; raises Retry if the server has ended this transaction."""
        self.heard = self._database.turns.now()
        if not self.is_open:
            raise Retry(Cause.AWAY, "the server closed the connection")

    def get(self, table: str, key: Hashable) -> Row | None:
        """Return a row: as written here, else as committed by now."""
        if (table, key) in self._written:
            return self._written[table, key]
        return self._database.rows(table).get(key)

    def scan(self, table: str) -> Iterator[tuple[Any, Row]]:
        """Yield all rows of a table, as written here, else as committed by now."""
        keys = dict.fromkeys(self._database.rows(table))
        keys |= dict.fromkeys(key for owner, key in self._written if owner == table)
        for key in keys:
            row = self.get(table, key)
            if row is not None:
                yield key, row

    def is_free(self, table: str, key: Hashable) -> bool:
        """Tell whether no other transaction holds this row."""
        self._database.end_idle()
        return self._database.holders.get((table, key)) in {None, self}

    def lock(self, table: str, key: Hashable) -> None:
        """Hold a row until the end; raises Retry after PostgreSQL's lock timeout."""
        name = (table, key)
        if not self._claim(name) and not self._database.turns.wait(
            lambda: not self.is_open or self._claim(name), LOCK_TIMEOUT_MS / 1000
        ):
            raise Retry(Cause.BLOCKED, "canceling statement due to lock timeout")
        self.speak()

    def _claim(self, name: Key) -> bool:
        self._database.end_idle()
        holder = self._database.holders.setdefault(name, self)
        if holder is self:
            self._held[name] = None
        return holder is self

    def put(self, table: str, key: Hashable, row: Row | None) -> None:
        """Write a row that this transaction may have to wait for; raises Retry or Reject."""
        if row is not None and self._database.refuses(table, row):
            raise Reject(f"a row of {table} violates a constraint")
        self.lock(table, key)
        self._written[table, key] = row

    def commit(self) -> None:
        """Let everybody see what was written; raises Retry if the server has ended this."""
        if not self.is_open:
            raise Retry(Cause.AWAY, "the server closed the connection")
        for (table, key), row in self._written.items():
            rows = self._database.rows(table)
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        self.end()

    def detach(self) -> None:
        """Be committed later, by a server that has COMMIT from a client that went away."""
        self.is_detached = True

    def end(self) -> None:
        """Forget what was written and let go of all rows; safe to repeat."""
        if not self.is_open:
            return
        self.is_open = False
        self._database.sessions.remove(self)
        for name in self._held:
            self._database.holders.pop(name, None)
