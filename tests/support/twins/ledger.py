"""The ledger in memory: what consumer/storage/ledger.py promises, without a PostgreSQL."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, date, datetime
from typing import Any

from msgspec.structs import asdict

from consumer.errors import Halt, Reject
from consumer.storage.dead_letters import OURS, DeadLetter, Recent, Standing, storable
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
from support.twins.rows import Database, Session

RECENT_SECONDS = 300
OUTCOMES = {"applied", "unchanged", "ignored", "failed"}
REQUIRED = {
    "webhook_events": ("type", "received_at", "livemode", "topic", "payload"),
    "subscriptions": ("customer_id", "status", "tier", "cancel_at_period_end", "facts"),
    "billing_audit": ("event_id", "action", "event_created_at"),
}


class MemoryLedger:
    """One process's way to the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def transaction(self) -> Iterator["MemoryTransaction"]:
        """Run a transaction: commit at the end, roll back on any exception."""
        turns = self._database.turns
        turns.point("ledger.begin")
        session = Session(self._database)
        try:
            yield MemoryTransaction(self._database, session)
            session.speak()
            turns.commit("ledger.commit", session.commit, session.detach)
        except BaseException:
            # In doubt, and on its way still: the one that commits it later ends it as well.
            if not session.is_detached:
                session.end()
            raise

    def ending_blockers(self) -> AbstractContextManager[None]:
        """Leave it to PostgreSQL's limits: in here nobody is stuck sending."""
        return nullcontext()

    def close(self) -> None:
        """Have nothing to close."""


class MemoryTransaction:
    """A batch's transaction; what each call promises stands in consumer/storage/ledger.py."""

    def __init__(self, database: Database, session: Session) -> None:
        self._database = database
        self._session = session

    def _begin(self, statement: str) -> Session:
        self._database.turns.point(f"ledger.{statement}")
        self._session.speak()
        return self._session

    # --- positions

    def load_positions(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        """Return the stored positions of these partitions; one without any is absent."""
        return self._positions(self._begin("load_positions"), group, topic, partitions)

    def lock_positions(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        """Lock the rows of these partitions in order, and return them."""
        session = self._begin("lock_positions")
        wanted = sorted(partitions)
        for partition in wanted:
            if session.get("consumer_positions", (group, topic, partition)) is not None:
                session.lock("consumer_positions", (group, topic, partition))
        return self._positions(session, group, topic, wanted)

    def insert_positions(self, group: str, topic: str, new: Sequence[Position]) -> None:
        """Store first positions; one that exists by now stays as it is."""
        session = self._begin("insert_positions")
        for position in sorted(new, key=lambda position: position.partition):
            key = (group, topic, position.partition)
            if session.get("consumer_positions", key) is None:
                session.lock("consumer_positions", key)
                if session.get("consumer_positions", key) is None:
                    session.put("consumer_positions", key, asdict(position))

    def move_positions(
        self,
        group: str,
        topic: str,
        before: Mapping[int, Position],
        after: Mapping[int, Position],
    ) -> int:
        """Set those positions that are as they were before; return how many."""
        session = self._begin("move_positions")
        moved = 0
        for partition, position in sorted(after.items()):
            key = (group, topic, partition)
            session.lock("consumer_positions", key)
            stored = session.get("consumer_positions", key)
            if stored and stored["next_offset"] == before[partition].next_offset:
                row = {**stored, "next_offset": position.next_offset}
                session.put("consumer_positions", key, row)
                moved += 1
        return moved

    def _positions(
        self, session: Session, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, Position]:
        return {
            partition: Position(**row)
            for partition in sorted(partitions)
            if (row := session.get("consumer_positions", (group, topic, partition))) is not None
        }

    # --- events, customers, subscriptions

    def lock_customers(self, ids: Collection[str]) -> dict[str, StoredCustomer]:
        """Add the customers that are missing and lock all of them, in order."""
        self.add_customers(ids)
        for customer in sorted(ids):
            self._session.lock("customers", customer)
        return self._customers(ids)

    def add_customers(self, ids: Collection[str]) -> dict[str, StoredCustomer]:
        """Add the customers that are missing and read all of them."""
        if ids:
            session = self._begin("lock_customers")
            for customer in sorted(ids):
                _check_texts({"customer_id": customer})
                self._add(session, customer)
        return self._customers(ids)

    def _add(self, session: Session, customer: str) -> None:
        if session.get("customers", customer) is None:
            session.lock("customers", customer)
            if session.get("customers", customer) is None:
                session.put("customers", customer, asdict(StoredCustomer(customer)))

    def _customers(self, ids: Collection[str]) -> dict[str, StoredCustomer]:
        rows = {customer: self._session.get("customers", customer) for customer in sorted(ids)}
        return {customer: StoredCustomer(**row) for customer, row in rows.items() if row}

    def find_recorded(self, created: Mapping[str, datetime]) -> dict[str, RecordedEvent]:
        """Return what stands recorded of these event ids, each with its `created`."""
        if not created:
            return {}
        session = self._begin("find_recorded")
        rows = {id_: session.get("webhook_events", (at, id_)) for id_, at in created.items()}
        return {
            id_: RecordedEvent(row["outcome"], row["api_version"])
            for id_, row in rows.items()
            if row is not None
        }

    def load_subscriptions(self, ids: Collection[str]) -> dict[str, StoredSubscription]:
        """Return the subscriptions of these ids that are stored."""
        if not ids:
            return {}
        session = self._begin("load_subscriptions")
        return {
            id_: StoredSubscription(id_, row["customer_id"], row["facts"], row["version"])
            for id_, row in session.scan("subscriptions")
            if id_ in ids
        }

    def write_events(self, rows: Sequence[Row]) -> None:
        """Record events with their outcome; one that had failed gets the new outcome."""
        for session, key, row in self._each("webhook_events", rows, "created_at", "event_id"):
            stored = session.get("webhook_events", key)
            if stored is None:
                stamped = {**row, "processed_at": session.heard}
                session.put("webhook_events", key, stamped)
            elif stored["outcome"] == "failed":
                again = {name: row[name] for name in ("outcome", "reason", "error")}
                stamped = {**stored, **again, "processed_at": session.heard}
                session.put("webhook_events", key, stamped)

    def write_subscriptions(self, rows: Sequence[Row]) -> None:
        """Write subscriptions whose customers this transaction has locked."""
        for session, key, row in self._each("subscriptions", rows, "subscription_id"):
            stored = session.get("subscriptions", key) or row
            # Whose it is never changes, whoever writes last.
            session.put("subscriptions", key, {**row, "customer_id": stored["customer_id"]})

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Write customers that this transaction has locked."""
        for session, key, row in self._each("customers", rows, "customer_id"):
            if session.get("customers", key) is not None:
                session.put("customers", key, row)

    def write_audit(self, rows: Sequence[Row]) -> None:
        """Append audit entries in the order given."""
        if rows:
            session = self._begin("write_audit")
            for row in rows:
                _check("billing_audit", row)
                number = self._database.next_number()
                session.put("billing_audit", number, {**row, "audit_id": number})

    def _each(
        self, table: str, rows: Sequence[Row], *names: str
    ) -> Iterator[tuple[Session, Any, Row]]:
        """Begin a statement, and yield its rows by key, each locked."""
        if not rows:
            return
        session = self._begin(f"write_{table}")
        keyed = {tuple(row[name] for name in names): row for row in rows}
        if len(keyed) != len(rows):
            raise Halt(f"one statement writes a row of {table} twice")
        for row in rows:
            _check(table, row)
        for key, row in sorted(keyed.items(), key=lambda entry: entry[0]):
            found = key if len(names) > 1 else key[0]
            session.lock(table, found)
            yield session, found, row

    # --- dead letters

    def write_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Set records aside; one that is open already counts an attempt."""
        if not letters:
            return
        session = self._begin("write_letters")
        for identity, letter in sorted({_identity(entry): entry for entry in letters}.items()):
            session.lock("open_letters", identity)
            known = next(
                (
                    (number, row)
                    for number, row in session.scan("dead_letters")
                    if row["identity"] == identity and row["resolved_at"] is None
                ),
                None,
            )
            number, row = known or (
                self._database.next_number(),
                _letter_row(letter, identity, session.heard),
            )
            again = {
                "attempts": row["attempts"] + 1 if known else 1,
                "reason": letter.reason.value,
                "error": storable(letter.error),
                "last_failed_at": session.heard,
            }
            session.put("dead_letters", number, {**row, **again})

    def resolve_letters(self, event_ids: Sequence[str]) -> None:
        """Close the open dead letters of events that are applied now."""
        if not event_ids:
            return
        session = self._begin("resolve_letters")
        for number, row in list(session.scan("dead_letters")):
            if row["event_id"] in event_ids and row["resolved_at"] is None:
                session.put("dead_letters", number, {**row, "resolved_at": session.heard})

    def close_letters(self, ids: Sequence[int]) -> None:
        """Close these dead letters; one that is closed stays as it is."""
        if not ids:
            return
        session = self._begin("close_letters")
        for number, row in self._open_letters(session, ids):
            session.put("dead_letters", number, {**row, "resolved_at": session.heard})

    def note_failures(self, failures: Sequence[Failure]) -> set[int]:
        """Count a failed replay of these open dead letters; return the ids that were open."""
        if not failures:
            return set()
        session = self._begin("note_failures")
        why = {failure.dead_letter_id: failure for failure in failures}
        found = self._open_letters(session, why)
        for number, row in found:
            again = {
                "attempts": row["attempts"] + 1,
                "reason": why[number].reason.value,
                "error": storable(why[number].error),
                "replayed_at": session.heard,
            }
            session.put("dead_letters", number, {**row, **again})
        return {number for number, _ in found}

    def _open_letters(self, session: Session, ids: Iterable[int]) -> list[tuple[int, Row]]:
        """Lock dead letters, and return those that are open by then."""
        for number in sorted(ids):
            if session.get("dead_letters", number) is not None:
                session.lock("dead_letters", number)
        found = [(number, session.get("dead_letters", number)) for number in sorted(ids)]
        return [(number, row) for number, row in found if row and row["resolved_at"] is None]

    def count_recent(self) -> Recent:
        """Read how many dead letters point at a fault of ours; restarts do not reset it."""
        session = self._begin("count_recent")
        since = session.heard - RECENT_SECONDS
        letters = [
            row
            for _, row in session.scan("dead_letters")
            if row["last_failed_at"] > since and row["reason"] in OURS
        ]
        return Recent(
            len(letters),
            frozenset(row["customer_id"] for row in letters if row["customer_id"] is not None),
            sum(row["processed_at"] > since for _, row in session.scan("webhook_events")),
        )

    def read_standing(self) -> Standing:
        """Read how many dead letters are open, since when, and when one was last seen to."""
        # No turn for others: nothing is decided by it.
        self._session.speak()
        rows = [row for _, row in self._session.scan("dead_letters")]
        waiting = [row for row in rows if row["resolved_at"] is None]
        seen_to = [row[n] for row in rows for n in ("resolved_at", "replayed_at") if row.get(n)]
        first = [row["first_failed_at"] for row in waiting]
        return Standing(
            Counter(row["reason"] for row in waiting),
            _moment(min(first, default=None)),
            _moment(max(seen_to, default=None)),
        )

    # --- cache entries to drop

    def record_invalidation(self, customers: Sequence[str]) -> int:
        """Note that these customers' cache entries must go; return the row's id."""
        session = self._begin("record_invalidation")
        number = self._database.next_number()
        row = {"customers": list(customers), "created_at": session.heard}
        session.put("cache_invalidations", number, row)
        return number

    def delete_invalidations(self, ids: Sequence[int]) -> None:
        """Forget rows whose entries are gone."""
        session = self._begin("delete_invalidations")
        for number in ids:
            if session.get("cache_invalidations", number) is not None:
                session.put("cache_invalidations", number, None)

    def take_overdue(self, most: int) -> dict[int, list[str]]:
        """Lock rows older than 0.75 s that nobody else has locked; return their customers."""
        session = self._begin("take_overdue")
        taken: dict[int, list[str]] = {}
        for number, row in sorted(session.scan("cache_invalidations")):
            is_due = row["created_at"] < session.heard - 0.75 and len(taken) < most
            if is_due and session.is_free("cache_invalidations", number):
                session.lock("cache_invalidations", number)
                taken[number] = row["customers"]
        return taken

    def expire_invalidations(self, seconds: float) -> None:
        """Forget rows that are older than that."""
        session = self._begin("expire_invalidations")
        for number, row in list(session.scan("cache_invalidations")):
            if row["created_at"] < session.heard - seconds:
                session.put("cache_invalidations", number, None)

    def count_overdue(self) -> Overdue:
        """Count the rows older than a second."""
        session = self._begin("count_overdue")
        ages = [session.heard - row["created_at"] for _, row in session.scan("cache_invalidations")]
        overdue = [age for age in ages if age > 1]
        return Overdue(len(overdue), max(overdue, default=0.0))

    # --- time

    def expire_graces(self, since: datetime | None, most: int) -> Expired:
        """Write `grace_period_expired` once for each grace period that ended after a moment."""
        session = self._begin("expire_graces")
        now = self._database.wall()
        found: list[dict[str, Any]] = []
        for id_, row in sorted(session.scan("subscriptions"), key=_by_grace):
            until = row["grace_until"]
            is_over = until is not None and until <= now and (since is None or until > since)
            if is_over and len(found) < most and session.is_free("subscriptions", id_):
                session.lock("subscriptions", id_)
                found.append(_expiry(id_, row))
        if not found:
            return Expired((), now, more=False)
        session = self._begin("write_expired")
        written = {row["event_id"] for _, row in session.scan("billing_audit")}
        new = [entry for entry in found if entry["event_id"] not in written]
        for entry in new:
            number = self._database.next_number()
            session.put("billing_audit", number, {**entry, "audit_id": number})
        customers = sorted({entry["customer_id"] for entry in new})
        return Expired(customers, now, more=len(found) == most)

    # --- once a day

    def write_tiers(self, plans: Plans) -> None:
        """Have no view that would need them."""

    def attach_months(self, today: date) -> None:
        """Have room for every month."""


def _moment(heard: float | None) -> datetime | None:
    return None if heard is None else datetime.fromtimestamp(heard, UTC)


def _by_grace(entry: tuple[Any, Row]) -> tuple[float, Any]:
    id_, row = entry
    return (row["grace_until"].timestamp() if row["grace_until"] else 0.0), id_


def _expiry(subscription: str, row: Row) -> dict[str, Any]:
    until = row["grace_until"]
    return {
        "event_id": f"grace_{subscription}_{int(until.timestamp())}",
        "customer_id": row["customer_id"],
        "subscription_id": subscription,
        "action": "grace_period_expired",
        "before": '{"entitled": true}',
        "after": '{"entitled": false}',
        "event_created_at": until,
    }


def _identity(letter: DeadLetter) -> tuple[str, str, int, int]:
    record = letter.record
    if letter.event_id is not None:
        return letter.event_id, "", 0, 0
    return "", record.topic, record.partition, record.offset


def _letter_row(letter: DeadLetter, identity: object, heard: float) -> dict[str, Any]:
    record = letter.record
    return {
        "identity": identity,
        "event_id": letter.event_id,
        "customer_id": letter.customer,
        "topic": record.topic,
        "partition": record.partition,
        "kafka_offset": record.offset,
        "key": record.key,
        "headers": record.headers,
        "body": record.body,
        "attempts": 0,
        "first_failed_at": heard,
        "resolved_at": None,
    }


def _check(table: str, row: Row) -> None:
    """Refuse what PostgreSQL refuses; raises Reject."""
    for name in REQUIRED.get(table, ()):
        if row[name] is None:
            raise Reject(f"null value in column {name!r}")
    if table == "webhook_events" and row["outcome"] not in OUTCOMES:
        raise Reject("violates check constraint webhook_events_outcome")
    _check_texts(row)


def _check_texts(row: Row) -> None:
    for value in row.values():
        if isinstance(value, str) and ("\0" in value or (not value.isascii() and _is_lone(value))):
            raise Reject("a text that UTF-8 or PostgreSQL cannot hold")


def _is_lone(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
