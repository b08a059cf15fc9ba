"""The ledger: its twin in memory and PostgreSQL keep the same promises."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from consumer.errors import Cause, Halt, Reject, Retry
from consumer.records import Record
from consumer.storage.dead_letters import DeadLetter, Reason
from consumer.storage.engine import make_engine
from consumer.storage.ledger import Ledger, Overdue, StoredCustomer, Transaction
from consumer.storage.positions import Position, Positions
from consumer.storage.postgres import PostgresLedger
from consumer.storage.stored_letters import Failure
from schemas.settings import DatabaseSettings
from support.polling import eventually
from support.twins.ledger import MemoryLedger
from support.twins.rows import Database
from support.twins.turns import RealTurns

MOMENT = datetime(2026, 11, 24, tzinfo=UTC)
POSITIONS = Positions("group", "topic")
FIRST = Position(0, "topic-id", 10)
Open = Callable[[], Ledger]


@pytest.fixture(params=["memory", "postgresql"])
def connect(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Provide processes' ways to one database, in memory or real."""
    if request.param == "memory":
        database = Database(RealTurns())
        yield lambda: MemoryLedger(database)
        return
    url = SecretStr(request.getfixturevalue("database_url"))
    engine = make_engine(DatabaseSettings(database_url=url), "test")
    opened: list[PostgresLedger] = []

    def open_one() -> Ledger:
        opened.append(PostgresLedger(engine))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


def event_row(id_: str = "evt_1", **fields: object) -> dict[str, object]:
    """Return a row of webhook_events."""
    return {
        "event_id": id_,
        "type": "invoice.paid",
        "customer_id": "cus_1",
        "created_at": MOMENT,
        "received_at": MOMENT,
        "livemode": False,
        "api_version": "v1",
        "outcome": "applied",
        "reason": None,
        "error": None,
        "topic": "topic",
        "partition": 0,
        "kafka_offset": 1,
        "payload": b"\x00",
    } | fields


def subscription_row(id_: str = "sub_1", **fields: object) -> dict[str, object]:
    """Return a row of subscriptions."""
    return {
        "subscription_id": id_,
        "customer_id": "cus_1",
        "status": "active",
        "tier": "pro",
        "prices": "{}",
        "cancel_at_period_end": False,
        "cancel_at": None,
        "current_period_end": None,
        "latest_invoice": None,
        "grace_until": None,
        "ambiguous": False,
        "facts": "[1]",
        "version": 1,
    } | fields


def letter(id_: str | None, offset: int = 1, **fields: Any) -> DeadLetter:
    """Return a dead letter; without an id nobody vouches for the record."""
    record = Record("topic", 0, offset, b"cus_1", b"body", MOMENT)
    found = DeadLetter(record, Reason.HANDLER, "it raised", id_, "cus_1" if id_ else None)
    return dataclasses.replace(found, **fields)


def recorded(transaction: Transaction, *ids: str) -> dict[str, str]:
    """Return the outcomes of those events that are recorded."""
    found = transaction.find_recorded(dict.fromkeys(ids, MOMENT))
    return {id_: event.outcome for id_, event in found.items()}


def test_what_is_rolled_back_leaves_nothing(connect: Open) -> None:
    """An exception within a transaction undoes all of it, the locks too."""
    ledger, other = connect(), connect()

    def fail() -> None:
        with ledger.transaction() as transaction:
            transaction.lock_customers({"cus_1"})
            transaction.write_events([event_row()])
            POSITIONS.insert(transaction, [FIRST])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with other.transaction() as transaction:
        assert recorded(transaction, "evt_1") == {}
        assert POSITIONS.load(transaction, [0]) == {}
        assert transaction.lock_customers({"cus_1"}) == {"cus_1": StoredCustomer("cus_1")}


def test_what_is_not_committed_nobody_else_sees(connect: Open) -> None:
    """A transaction sees its own rows at once, and others' from their commit on."""
    ours, theirs = connect(), connect()
    with theirs.transaction() as reading:
        with ours.transaction() as writing:
            writing.write_events([event_row()])
            assert recorded(writing, "evt_1") == {"evt_1": "applied"}
            assert recorded(reading, "evt_1") == {}
        # READ COMMITTED: the next statement sees it, in the same transaction.
        assert recorded(reading, "evt_1") == {"evt_1": "applied"}


def test_only_a_failed_event_is_judged_again(connect: Open) -> None:
    """What stands recorded otherwise stays, whatever comes."""
    with connect().transaction() as transaction:
        rows = [event_row(), event_row("evt_2", outcome="failed", error="it raised")]
        transaction.write_events(rows)
        transaction.write_events([event_row(outcome="ignored"), event_row("evt_2")])
        assert recorded(transaction, "evt_1", "evt_2", "evt_3") == {
            "evt_1": "applied",
            "evt_2": "applied",
        }


def test_one_statement_writes_a_row_once(connect: Open) -> None:
    """The same event twice in one statement is a fault of ours: the process stops."""
    with pytest.raises(Halt), connect().transaction() as transaction:
        transaction.write_events([event_row(), event_row()])


@pytest.mark.parametrize(
    "row",
    [
        event_row("evt\0"),
        event_row(outcome="odd"),
        event_row(type=None),
        event_row(payload=None),
        event_row("\ud800"),
    ],
    ids=["nul", "check", "null_text", "null_bytes", "lone_surrogate"],
)
def test_data_that_cannot_be_stored_is_rejected(connect: Open, row: dict[str, object]) -> None:
    """The verdict is Reject, nothing of the transaction stands, and the ledger works on."""
    ledger = connect()

    def write() -> None:
        with ledger.transaction() as transaction:
            transaction.write_events([event_row("evt_good")])
            transaction.write_events([row])

    with pytest.raises(Reject):
        write()
    with ledger.transaction() as transaction:
        assert recorded(transaction, "evt_good") == {}


def test_subscriptions_are_found_by_their_ids(connect: Open) -> None:
    """Who looks for ids gets those that are stored; the owner of a row never changes."""
    with connect().transaction() as transaction:
        rows = [subscription_row(), subscription_row("sub_2", customer_id="cus_2")]
        transaction.write_subscriptions(rows)
        transaction.write_subscriptions([subscription_row(customer_id="cus_9", version=2)])
        found = transaction.load_subscriptions(["sub_1", "sub_2", "sub_3"])
        assert {id_: (row.customer_id, row.version) for id_, row in found.items()} == {
            "sub_1": ("cus_1", 2),
            "sub_2": ("cus_2", 1),
        }
        assert transaction.load_subscriptions([]) == {}


# --- positions


def test_a_first_position_stays(connect: Open) -> None:
    """Who comes second with a first position changes nothing."""
    with connect().transaction() as transaction:
        POSITIONS.insert(transaction, [FIRST])
        POSITIONS.insert(transaction, [FIRST.moved_to(99), replace(FIRST, partition=1)])
        assert POSITIONS.load(transaction, [0, 1, 2]) == {0: FIRST, 1: replace(FIRST, partition=1)}
        assert Positions("other", "topic").load(transaction, [0]) == {}


def test_a_position_moves_from_where_it_stands_only(connect: Open) -> None:
    """Compare and set: another value than the one read moves nothing."""
    with connect().transaction() as transaction:
        POSITIONS.insert(transaction, [FIRST])
        names = ("group", "topic")
        assert transaction.move_positions(*names, {0: FIRST.moved_to(9)}, {0: FIRST}) == 0
        assert transaction.move_positions(*names, {0: FIRST}, {0: FIRST.moved_to(12)}) == 1
        assert POSITIONS.load(transaction, [0])[0].next_offset == 12


@pytest.mark.parametrize(
    "known",
    [FIRST.moved_to(11), replace(FIRST, topic_id="other"), replace(FIRST, epoch=1)],
    ids=["behind", "topic", "epoch"],
)
def test_a_position_that_was_set_back_is_noticed(connect: Open, known: Position) -> None:
    """Behind, of another topic or epoch, or gone: the records must be read again."""
    with connect().transaction() as transaction:
        POSITIONS.insert(transaction, [FIRST])
        for look in (POSITIONS.lock, POSITIONS.check):
            with pytest.raises(Retry) as caught:
                look(transaction, {0: known})
            assert caught.value.cause is Cause.POSITION
            with pytest.raises(Retry):
                look(transaction, {1: FIRST})
        assert POSITIONS.lock(transaction, {0: FIRST.moved_to(3)}) == {0: FIRST}


# --- locks


def test_a_second_transaction_waits_and_loses_no_update(connect: Open) -> None:
    """Two that change the same customer come one after the other, each on the other's row."""
    ours, theirs = connect(), connect()
    started = threading.Event()

    def bump(ledger: Ledger) -> None:
        with ledger.transaction() as transaction:
            started.set()
            row = transaction.lock_customers({"cus_1"})["cus_1"]
            transaction.write_customers([as_row(replace(row, version=row.version + 1))])

    with ours.transaction() as transaction:
        row = transaction.lock_customers({"cus_1"})["cus_1"]
        pool = ThreadPoolExecutor(1)
        waiting = pool.submit(bump, theirs)
        eventually(started.is_set)
        transaction.write_customers([as_row(replace(row, version=row.version + 1))])
        assert not waiting.done()
    waiting.result(30)
    pool.shutdown()
    with ours.transaction() as transaction:
        assert transaction.lock_customers({"cus_1"})["cus_1"].version == 2


def as_row(customer: StoredCustomer) -> dict[str, object]:
    """Return a customer as the row to write."""
    names = ("customer_id", "reference", "reference_created_at", "reference_event_id", "version")
    return {name: getattr(customer, name) for name in names}


@pytest.mark.parametrize(
    "lock",
    [
        lambda transaction: transaction.lock_customers({"cus_1"}),
        lambda transaction: POSITIONS.lock(transaction, {0: FIRST}),
        lambda transaction: transaction.write_events([event_row("evt_new")]),
        lambda transaction: transaction.write_letters([letter("evt_new")]),
    ],
    ids=["customers", "positions", "events", "letters"],
)
def test_a_row_that_is_held_for_too_long_is_contention(connect: Open, lock: Any) -> None:
    """After the lock timeout the verdict is Retry(blocked), and the other goes on."""
    ours, theirs = connect(), connect()
    with ours.transaction() as transaction:
        POSITIONS.insert(transaction, [FIRST])
    with ours.transaction() as transaction:
        lock(transaction)
        with pytest.raises(Retry) as caught, theirs.transaction() as rival:
            lock(rival)
        assert caught.value.cause is Cause.BLOCKED
    with theirs.transaction() as rival:
        lock(rival)


# --- dead letters and invalidations


def test_a_failure_has_one_open_letter_until_it_is_resolved(connect: Open) -> None:
    """The same event or record again counts an attempt; after it was resolved it is a new one."""
    ledger = connect()
    with ledger.transaction() as transaction:
        transaction.write_letters([letter("evt_1"), letter(None), letter(None, 2)])
        transaction.write_letters([letter("evt_1", 7, reason=Reason.DATA), letter(None)])
        assert transaction.count_recent().letters == 3
        assert transaction.count_recent().customers == {"cus_1"}
        transaction.resolve_letters(["evt_1", "evt_2"])
        transaction.write_letters([letter("evt_1")])
        assert transaction.count_recent().letters == 4


def test_a_replay_closes_letters_or_counts_its_failure(connect: Open) -> None:
    """Only open ones; a failed replay does not make a letter recent again."""
    ledger = connect()
    failed = [Failure(number, Reason.DATA, "again") for number in (1, 2, 99)]
    with ledger.transaction() as transaction:
        transaction.write_letters([letter("evt_1")])
        transaction.write_letters([letter("evt_2")])
        assert transaction.note_failures(failed) == {1, 2}
    with ledger.transaction() as transaction:
        transaction.close_letters([1, 99])
        assert transaction.note_failures(failed) == {2}
        transaction.close_letters([])
        assert transaction.note_failures([]) == set()


def test_who_waits_for_a_person_is_told(connect: Open) -> None:
    """Open letters by reason, since when the oldest waits, and when one was last seen to."""
    ledger = connect()
    with ledger.transaction() as transaction:
        nothing = transaction.read_standing()
        assert (dict(nothing.open), nothing.oldest, nothing.last_replay) == ({}, None, None)
        transaction.write_letters([letter("evt_1")])
        transaction.write_letters([letter(None, reason=Reason.UNSIGNED)])
    with ledger.transaction() as transaction:
        first = transaction.read_standing()
        assert {k: n for k, n in first.open.items() if n} == {"handler": 1, "unsigned": 1}
        assert first.last_replay is None
        transaction.note_failures([Failure(2, Reason.UNSIGNED, "again")])
    with ledger.transaction() as transaction:
        replayed = transaction.read_standing()
        assert first.oldest is not None
        assert replayed.oldest == first.oldest
        assert replayed.last_replay is not None
        assert replayed.last_replay > first.oldest
        transaction.close_letters([1, 2])
    with ledger.transaction() as transaction:
        assert not any(transaction.read_standing().open.values())
        assert transaction.read_standing().oldest is None


def test_what_strangers_send_is_not_counted(connect: Open) -> None:
    """Only what points at a fault of ours counts towards the halt, among all recent events."""
    with connect().transaction() as transaction:
        transaction.write_events([event_row(), event_row("evt_2")])
        transaction.write_letters([letter(None, reason=Reason.UNSIGNED), letter("evt_2")])
        recent = transaction.count_recent()
        assert (recent.letters, recent.events) == (1, 2)


def test_an_invalidation_is_taken_by_one_sweeper_once_it_is_overdue(connect: Open) -> None:
    """0.75 s after its batch a row may be swept; one that somebody sweeps is passed by."""
    ours, theirs = connect(), connect()
    with ours.transaction() as transaction:
        first = transaction.record_invalidation(["cus_1", "cus_2"])
        second = transaction.record_invalidation(["cus_3"])
        assert transaction.take_overdue(10) == {}
    assert first != second

    def is_taken() -> bool:
        with ours.transaction() as transaction:
            found = transaction.take_overdue(1)
            if not found:
                return False
            assert found == {first: ["cus_1", "cus_2"]}
            with theirs.transaction() as rival:
                assert rival.take_overdue(10) == {second: ["cus_3"]}
            transaction.delete_invalidations(list(found))
            return True

    eventually(is_taken)
    with theirs.transaction() as transaction:
        assert transaction.take_overdue(10) == {second: ["cus_3"]}
        transaction.expire_invalidations(3600)
        assert transaction.take_overdue(10) == {second: ["cus_3"]}
        transaction.expire_invalidations(0.5)
        assert transaction.take_overdue(10) == {}


def test_what_waits_to_be_swept_is_counted(connect: Open) -> None:
    """A row counts from a second on, with its age; what is committed a moment ago does not."""
    ledger = connect()
    with ledger.transaction() as transaction:
        assert transaction.count_overdue() == Overdue()
        transaction.record_invalidation(["cus_1"])
        assert transaction.count_overdue() == Overdue()

    def is_overdue() -> bool:
        with ledger.transaction() as transaction:
            found = transaction.count_overdue()
        return found.rows == 1 and 1 < found.oldest_seconds < 30

    eventually(is_overdue)


def with_grace(ledger: Ledger, *graces: tuple[str, datetime]) -> None:
    """Store a subscription each, of a customer of its own, whose grace ends then."""
    with ledger.transaction() as transaction:
        transaction.lock_customers({f"cus_{id_}" for id_, _ in graces})
        transaction.write_subscriptions(
            [
                subscription_row(id_, customer_id=f"cus_{id_}", status="past_due", grace_until=end)
                for id_, end in graces
            ]
        )


def expire(ledger: Ledger, since: datetime | None = None, most: int = 10) -> list[str]:
    """Let grace periods end, and return whose did."""
    with ledger.transaction() as transaction:
        return list(transaction.expire_graces(since, most).customers)


AHEAD = datetime.now(UTC) + timedelta(hours=1)


def test_a_grace_period_that_ended_is_written_once(connect: Open) -> None:
    """Each end is told once, a later one of the same subscription again; none before its time."""
    ledger = connect()
    with_grace(ledger, ("a", MOMENT), ("b", MOMENT + timedelta(seconds=1)), ("c", AHEAD))
    assert expire(ledger, most=1) == ["cus_a"]
    assert expire(ledger) == ["cus_b"]
    assert expire(ledger) == []
    with_grace(ledger, ("a", MOMENT + timedelta(hours=1)))
    assert expire(ledger, since=MOMENT + timedelta(hours=1)) == []
    assert expire(ledger, since=MOMENT) == ["cus_a"]
    assert expire(ledger) == []


def test_more_than_one_look_finds_is_said(connect: Open) -> None:
    """Where a look was full there may be more; its time is the database's."""
    ledger = connect()
    with_grace(ledger, ("a", MOMENT), ("b", MOMENT))
    with ledger.transaction() as transaction:
        assert transaction.expire_graces(None, 1).more
        found = transaction.expire_graces(None, 10)
        assert not found.more
        assert abs(found.now - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_grace_period_that_another_process_ends_is_passed_by(connect: Open) -> None:
    """What somebody has locked is left to them, and not written again after their commit."""
    ours, theirs = connect(), connect()
    with_grace(ours, ("a", MOMENT), ("b", MOMENT))
    with ours.transaction() as transaction:
        assert transaction.expire_graces(None, 1).customers == ["cus_a"]
        assert expire(theirs) == ["cus_b"]
    assert expire(theirs) == []


def test_processes_at_once_write_each_end_once(connect: Open) -> None:
    """Any number of processes may look at the same moment."""
    ledgers = [connect() for _ in range(4)]
    subscriptions = [f"s{number}" for number in range(40)]
    with_grace(ledgers[0], *((id_, MOMENT) for id_ in subscriptions))

    def work(ledger: Ledger) -> list[str]:
        found: list[str] = []
        while part := expire(ledger, most=3):
            found += part
        return found

    with ThreadPoolExecutor(len(ledgers)) as pool:
        told = [customer for found in pool.map(work, ledgers) for customer in found]
    told += expire(ledgers[0], most=100)
    assert sorted(told) == sorted(f"cus_{id_}" for id_ in subscriptions)
