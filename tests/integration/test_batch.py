"""A batch on real PostgreSQL and Redis: verdicts, splitting, positions, dedup, halting."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import redis
import time_machine
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import text

import consumer.decode
from consumer.billing.handlers import read_event
from consumer.errors import Cause, Halt, Retry
from consumer.failpoints import pass_by
from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.engine import make_engine
from consumer.storage.invalidation import Sweeper
from consumer.storage.positions import Position
from consumer.storage.postgres import PostgresLedger
from consumer.storage.redis_session import Session, open_session
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics
from schemas.redis_keys import entitlement_key, mark_key
from schemas.settings import DatabaseSettings
from schemas.stripe_event import StripeEvent
from support.bench import START, Bench, records
from support.proxy import Proxy
from support.reading import INSERT
from support.stripe import DAY, Json, event, invoice, subscription


def start_of(number: int, **fields: Any) -> Json:
    """Return the beginning of one customer's subscription."""
    own = {"id": f"sub_{number}", "customer": f"cus_{number}"} | fields
    return event("customer.subscription.created", subscription(**own), id=f"evt_{number}")


def raising_for(is_bad: Callable[[StripeEvent], bool]) -> Callable[[StripeEvent], Any]:
    """Return a reader of events with a fault."""

    def read(found: StripeEvent) -> Any:
        if is_bad(found):
            raise ZeroDivisionError("a fault of ours")
        return read_event(found)

    return read


def test_a_batch_applies_once_and_moves_the_position(bench: Bench) -> None:
    """Effects and position stand together; the same records again change nothing."""
    documents = [start_of(1), start_of(2), event("charge.captured", {"object": "charge"})]
    moved = bench.apply(documents)
    assert moved[0].next_offset == 3
    before = bench.query("SELECT * FROM subscriptions ORDER BY 1")
    assert bench.apply(documents, moved)[0].next_offset == 6
    assert bench.query("SELECT * FROM subscriptions ORDER BY 1") == before
    assert bench.query("SELECT count(*) FROM webhook_events") == [(3,)]
    assert bench.counted("hookline_consumer_duplicates_total", layer="redis") == 3


def test_the_event_id_knows_what_redis_forgot(bench: Bench, redis_url: str) -> None:
    """A flushed Redis costs a look-up, nothing else."""
    moved = bench.apply([start_of(1)])
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    bench.apply([start_of(1)], moved)
    assert bench.counted("hookline_consumer_duplicates_total", layer="event_id") == 1
    kind = {"type": "customer.subscription.created", "reason": "same_fact"}
    assert bench.counted("hookline_consumer_events_total", outcome="unchanged", **kind) == 0
    assert bench.query("SELECT count(*) FROM billing_audit") == [(1,)]


def test_old_marks_do_not_hide_events_that_a_restored_database_lacks(
    bench: Bench, redis_url: str
) -> None:
    """A database set back under a living connection gets its events again from Kafka."""
    moved = bench.apply([start_of(1)])
    with bench.engine.begin() as connection:
        for table in ("webhook_events", "subscriptions", "customers", "billing_audit"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
        connection.execute(text("UPDATE consumer_positions SET next_offset = 0"))
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists(mark_key("evt_1")) == 1
    with pytest.raises(Retry) as caught:
        bench.apply([start_of(2)], moved)
    assert caught.value.cause is Cause.POSITION
    bench.apply([start_of(1), start_of(2)])
    assert set(bench.outcomes()) == {"evt_1", "evt_2"}


def test_a_position_that_moved_on_skips_what_lies_below(bench: Bench) -> None:
    """A process that was frozen finds its records applied, and applies only the rest."""
    bench.apply([start_of(1), start_of(2)])
    moved = bench.apply([start_of(1), start_of(2), start_of(3)])
    assert moved[0].next_offset == 3
    assert bench.counted("hookline_consumer_duplicates_total", layer="position") == 2
    assert set(bench.outcomes()) == {"evt_1", "evt_2", "evt_3"}


def test_a_record_that_nobody_signed_is_set_aside(bench: Bench) -> None:
    """Whoever writes to the topic by hand changes nothing, and the bytes are kept."""
    forged = records([start_of(1)], secret="whsec_other")
    bench.batch.apply(forged, START)
    letters = bench.query("SELECT reason, event_id, body, kafka_offset FROM dead_letters")
    assert letters == [("unsigned", None, forged[0].body, 0)]
    assert bench.outcomes() == {}


def test_a_record_without_a_value_is_set_aside(bench: Bench) -> None:
    """A tombstone is no event."""
    bench.batch.apply([replace(records([start_of(1)])[0], body=None)], START)
    assert bench.query("SELECT reason, body FROM dead_letters") == [("undecodable", None)]


def test_one_event_that_makes_our_code_raise_stops_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded as failed, its customer's next events stand, and it can come again."""
    bad = event(
        "invoice.payment_failed", invoice(id="in_9", subscription="sub_1"), DAY, id="evt_bad"
    )
    faulty = raising_for(lambda found: found.id == "evt_bad")
    with monkeypatch.context() as patch:
        patch.setattr(consumer.decode, "read_event", faulty)
        moved = bench.apply([start_of(1), bad, start_of(2)])
    assert bench.outcomes()["evt_bad"] == ("failed", "handler")
    assert bench.outcomes()["evt_2"][0] == "applied"
    open_letters = "SELECT event_id, reason FROM dead_letters WHERE resolved_at IS NULL"
    assert bench.query(open_letters) == [("evt_bad", "handler")]

    # Delivered again after the fix: as if it had never failed.
    bench.apply([bad], moved)
    assert bench.outcomes()["evt_bad"] == ("applied", None)
    assert bench.query(open_letters) == []
    assert bench.query("SELECT status FROM subscriptions WHERE subscription_id = 'sub_1'") == [
        ("past_due",)
    ]


def test_data_that_postgresql_refuses_is_found_and_set_aside(bench: Bench) -> None:
    """The batch is split; the culprit alone is set aside, everything else stands once."""
    refuse_bad_subscription(bench)
    documents = [start_of(1), start_of(2), start_of(3), start_of(3, id="sub_bad"), start_of(4)]
    documents[3]["id"] = "evt_bad"
    moved = bench.apply(documents)
    assert moved[0].next_offset == 5
    assert bench.outcomes()["evt_bad"] == ("failed", "data")
    assert {k for k, v in bench.outcomes().items() if v[0] == "applied"} == {
        "evt_1",
        "evt_2",
        "evt_3",
        "evt_4",
    }
    assert bench.query("SELECT event_id, reason FROM dead_letters") == [("evt_bad", "data")]
    assert bench.query("SELECT count(*) FROM billing_audit") == [(4,)]


def test_a_failure_in_a_split_batch_counts_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts and the last pass meet it; its attempts and the halt rule see it once."""
    refuse_bad_subscription(bench)
    documents = [start_of(1), start_of(2), start_of(3, id="sub_bad"), start_of(4)]
    monkeypatch.setattr(
        consumer.decode, "read_event", raising_for(lambda found: found.id == documents[1]["id"])
    )
    assert bench.apply(documents)[0].next_offset == 4
    letters = bench.query("SELECT reason, attempts FROM dead_letters ORDER BY reason")
    assert letters == [("data", 1), ("handler", 1)]
    assert bench.counted("hookline_consumer_dead_letters_total", reason="handler") == 1


def refuse_bad_subscription(bench: Bench) -> None:
    """Let PostgreSQL refuse one subscription."""
    with bench.engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE subscriptions ADD CHECK (subscription_id <> 'sub_bad')")
        )


SPLIT = (
    start_of(1),
    start_of(2),
    start_of(3),
    start_of(3, id="sub_bad") | {"id": "evt_bad"},
    start_of(4),
)
"""Of four customers' events one is refused, so that there are parts by customer and by event."""


def test_positions_move_with_the_last_part_only(bench: Bench) -> None:
    """While a batch is split, Kafka would offer all of it again."""
    refuse_bad_subscription(bench)
    both = "SELECT next_offset, (SELECT count(*) FROM webhook_events) FROM consumer_positions"
    stood: list[tuple[int, int]] = []

    def note(place: str) -> None:
        if place == "after_commit":
            stood.extend(bench.query(both))

    bench.batch._reach = note  # noqa: SLF001 - as the composition root would pass it
    bench.apply(list(SPLIT))
    # Customers 1, 2, the good event of 3, customer 4, then the whole with the culprit set aside.
    assert stood == [(0, 1), (0, 2), (0, 3), (0, 4), (5, 5)]


class Died(BaseException):
    """What a kill is, seen from inside: nothing after it runs."""


@pytest.mark.parametrize("turn", [1, 3, 5])
@pytest.mark.parametrize(
    "place", ["after_lock", "after_fold", "before_commit", "after_commit", "before_redis_post"]
)
def test_a_split_batch_that_dies_applies_nothing_twice(bench: Bench, place: str, turn: int) -> None:
    """Whatever part it dies in, the records offered again come to the same end."""
    refuse_bad_subscription(bench)
    reached: list[str] = []

    def die(at: str) -> None:
        reached.append(at)
        if at == place and reached.count(at) == turn:
            raise Died

    bench.batch._reach = die  # noqa: SLF001 - as the composition root would pass it
    with suppress(Died):
        bench.apply(list(SPLIT))
    bench.batch._reach = pass_by  # noqa: SLF001 - same
    [(position,)] = bench.query("SELECT next_offset FROM consumer_positions")
    assert position in {0, 5}
    if position == 0:
        assert bench.apply(list(SPLIT))[0].next_offset == 5
    assert {id_: outcome for id_, (outcome, _) in bench.outcomes().items()} == {
        "evt_1": "applied",
        "evt_2": "applied",
        "evt_3": "applied",
        "evt_4": "applied",
        "evt_bad": "failed",
    }
    letters = bench.query("SELECT event_id, reason, attempts, resolved_at FROM dead_letters")
    assert letters == [("evt_bad", "data", 1, None)]
    audit = bench.query("SELECT event_id, count(*) FROM billing_audit GROUP BY 1 ORDER BY 1")
    assert audit == [("evt_1", 1), ("evt_2", 1), ("evt_3", 1), ("evt_4", 1)]


@pytest.mark.parametrize("answered", [False, True], ids=["never arrived", "committed"])
def test_22_commit_whose_answer_is_lost(bench: Bench, answered: bool) -> None:  # noqa: FBT001 - a parameter
    """Nobody knows how it ended but the position: loaded again, it tells where to go on."""
    port = int(str(psycopg.conninfo.conninfo_to_dict(bench.url)["port"]))
    with Proxy(port) as proxy:
        url = SecretStr(bench.url.replace(f":{port}/", f":{proxy.port}/"))
        led = PostgresLedger(make_engine(DatabaseSettings(database_url=url), "test"))
        bench.batch._ledger = led  # noqa: SLF001 - as the composition root would pass it
        moved = bench.apply([start_of(1)])
        proxy.cut_at(b"COMMIT", answered=answered)
        with pytest.raises(Retry) as caught:
            bench.apply([start_of(2), start_of(3)], moved)
        assert caught.value.cause is Cause.AWAY
        assert proxy.cuts == 1
        led.close()
        with led.transaction() as transaction:
            stored = bench.positions.load(transaction, [0])
        assert stored[0].next_offset == (3 if answered else 1)
        log = [start_of(1), start_of(2), start_of(3), start_of(4)]
        bench.apply(log[stored[0].next_offset :], stored)
        led.close()
    assert bench.query("SELECT next_offset FROM consumer_positions") == [(4,)]
    assert bench.query("SELECT event_id FROM billing_audit ORDER BY audit_id") == [
        ("evt_1",),
        ("evt_2",),
        ("evt_3",),
        ("evt_4",),
    ]


def test_an_event_whose_row_is_refused_has_a_dead_letter_alone(bench: Bench) -> None:
    """Even an event that cannot be recorded as failed stops nobody."""
    with bench.engine.begin() as connection:
        connection.execute(text("ALTER TABLE webhook_events ADD CHECK (event_id <> 'evt_2')"))
    bench.apply([start_of(1), start_of(2), start_of(3)])
    assert set(bench.outcomes()) == {"evt_1", "evt_3"}
    assert bench.query("SELECT event_id, reason FROM dead_letters") == [("evt_2", "data")]


def test_a_fault_of_our_own_halts_before_it_drains_the_topic(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures of many customers at once roll the batch back; a restart halts again."""
    monkeypatch.setattr(consumer.decode, "read_event", raising_for(lambda _: True))
    documents = [start_of(number) for number in range(60)]
    for _ in range(2):
        with pytest.raises(Halt):
            bench.apply(documents)
    assert bench.query("SELECT count(*) FROM dead_letters") == [(0,)]
    assert bench.query("SELECT next_offset FROM consumer_positions") == [(0,)]


def test_a_slow_drain_halts_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule reads the table, so small batches and restarts do not get around it."""
    monkeypatch.setattr(consumer.decode, "read_event", raising_for(lambda _: True))
    at: Mapping[int, Position] = START
    for number in range(0, 40, 10):
        at = bench.apply([start_of(n) for n in range(number, number + 10)], at)
    with pytest.raises(Halt):
        bench.apply([start_of(n) for n in range(40, 50)], at)
    assert bench.query("SELECT count(*) FROM dead_letters") == [(40,)]


def test_one_sick_customer_halts_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty failures of one customer are sixty dead letters."""
    monkeypatch.setattr(consumer.decode, "read_event", raising_for(lambda _: True))
    documents = [start_of(1) | {"id": f"evt_{n}"} for n in range(60)]
    bench.apply(documents)
    assert bench.query("SELECT count(*) FROM dead_letters") == [(60,)]


def test_a_missing_table_halts_with_what_to_do(bench: Bench) -> None:
    """A schema of another version is no reason to set events aside."""
    with bench.engine.begin() as connection:
        connection.execute(text("ALTER TABLE billing_audit RENAME TO elsewhere"))
    with pytest.raises(Halt, match="hookline migrate"):
        bench.apply([start_of(1)])
    assert bench.query("SELECT count(*) FROM dead_letters") == [(0,)]


def test_a_row_that_somebody_locks_is_waited_for_then_retried(bench: Bench) -> None:
    """A lock timeout is contention: nothing is set aside, the next try applies all."""
    bench.apply([start_of(1)])
    with psycopg.connect(bench.url) as rival:
        rival.execute("SELECT 1 FROM customers FOR UPDATE")
        slow = Position(0, "topic-id", 1)
        with pytest.raises(Retry) as caught:
            bench.apply([start_of(1) | {"id": "evt_next"}], {0: slow})
        assert caught.value.cause is Cause.BLOCKED
    bench.apply([start_of(1) | {"id": "evt_next"}], {0: slow})
    assert "evt_next" in bench.outcomes()


def test_invalidation_rows_vanish_once_redis_has_answered(bench: Bench) -> None:
    """Each changed customer's cache entry is certain to go; the sweeper clears the note."""
    bench.apply([start_of(1), start_of(2)])
    assert bench.query("SELECT customers FROM cache_invalidations") == [(["cus_1", "cus_2"],)]
    with bench.ledger.transaction() as transaction:
        bench.sweeper.sweep(transaction)
    assert bench.query("SELECT count(*) FROM cache_invalidations") == [(0,)]


def test_a_row_stays_until_redis_has_answered(bench: Bench) -> None:
    """A sweeper without Redis deletes nothing; one that reaches it drops entry and row."""
    with bench.ledger.transaction() as transaction:
        transaction.record_invalidation(["cus_1"])
    age_rows(bench)
    away = BoundedRedis(
        partial(open_session, "redis://127.0.0.1:1/0"), RedisMetrics(CollectorRegistry())
    )
    with bench.ledger.transaction() as transaction:
        Sweeper(away).sweep(transaction)
    away.close()
    assert bench.query("SELECT customers FROM cache_invalidations") == [(["cus_1"],)]

    def store(session: Session) -> str:
        key = entitlement_key(session.generation, "cus_1")
        session.client.set(key, "old")
        return key

    key = bench.redis.ask(RedisOperation.SWEEP, store)
    with bench.ledger.transaction() as transaction:
        bench.sweeper.sweep(transaction)
    assert bench.redis.ask(RedisOperation.SWEEP, lambda s: int(s.client.exists(str(key)))) == 0
    assert bench.query("SELECT count(*) FROM cache_invalidations") == [(0,)]


def age_rows(bench: Bench) -> None:
    """Let a second go by for the rows that wait to be swept."""
    with psycopg.connect(bench.url) as connection:
        connection.execute("UPDATE cache_invalidations SET created_at = now() - interval '2 s'")


@pytest.mark.parametrize("hours", [-48, 48], ids=["behind", "ahead"])
def test_a_wrong_clock_ends_no_grace_period_early_or_late(bench: Bench, hours: int) -> None:
    """PostgreSQL's clock says which are over, whatever the process believes."""
    now, hour = datetime.now(UTC), timedelta(hours=1)
    with psycopg.connect(bench.url) as connection:
        for name, end in (("over", now - hour), ("runs", now + hour)):
            row = [f"sub_{name}", f"cus_{name}", "past_due", "pro", None, end]
            connection.execute(INSERT, row)
    with time_machine.travel(now + hours * hour), bench.ledger.transaction() as found:
        expired = found.expire_graces(None, 10)
    assert list(expired.customers) == ["cus_over"]
    assert abs(expired.now - now) < timedelta(minutes=5)


def test_the_first_reference_stays(bench: Bench) -> None:
    """A customer's reference is the one of the least time and id, whatever came first."""
    late = event(
        "customer.updated",
        {"object": "customer", "id": "cus_1", "metadata": {"reference": "late"}},
        50,
    )
    early = event(
        "checkout.session.completed",
        {"object": "checkout.session", "customer": "cus_1", "client_reference_id": "early"},
        5,
    )
    moved = bench.apply([late, early])
    bench.apply([early, late], moved)
    assert bench.query("SELECT reference FROM customers") == [("early",)]
    actions = bench.query("SELECT action, after->>'reference' FROM billing_audit ORDER BY 1, 2")
    assert actions == [("reference_linked", "early"), ("reference_linked", "late")]
