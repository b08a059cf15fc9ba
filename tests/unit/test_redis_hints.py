"""Redis as a hint: in time or "don't know", and never believed where the position disagrees."""

import threading
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
import redis
from prometheus_client import CollectorRegistry

from consumer.storage.bounded_redis import BoundedRedis, Breaker
from consumer.storage.hints import Hints
from consumer.storage.marks import backed_marks
from consumer.storage.positions import Position
from consumer.storage.redis_session import Session
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics
from schemas.redis_keys import Mark, entitlement_key, lease_key, lock_key, mark_key

MARK = Mark("topic-id", 0, 3, 41)
POSITION = Position(3, "topic-id", 42, 0)


@pytest.fixture
def server() -> fakeredis.FakeServer:
    """Provide an in-memory Redis."""
    return fakeredis.FakeServer()


def bounded(
    connect: Callable[[], Session], breaker: Breaker | None = None
) -> tuple[BoundedRedis, CollectorRegistry]:
    """Return a bounded Redis and what it counts."""
    registry = CollectorRegistry()
    return BoundedRedis(connect, RedisMetrics(registry), breaker=breaker), registry


def client_of(server: fakeredis.FakeServer) -> Any:
    """Return a client of an in-memory Redis."""
    return fakeredis.FakeRedis(server=server, decode_responses=True)


def hints_on(server: fakeredis.FakeServer) -> Hints:
    """Return hints that answer from an in-memory Redis."""
    return Hints(bounded(lambda: Session(client_of(server), "gen1"))[0])


@pytest.mark.parametrize(
    ("mark", "counts"),
    [
        (MARK, True),
        (Mark("topic-id", 0, 3, 42), False),
        (Mark("topic-id", 0, 4, 41), False),
        (Mark("another", 0, 3, 41), False),
        (Mark("topic-id", 1, 3, 41), False),
    ],
    ids=["backed", "set_back", "other_partition", "topic_made_again", "gap_accepted"],
)
def test_a_mark_counts_only_while_the_position_backs_it(mark: Mark, *, counts: bool) -> None:
    """A database set back to an earlier state disowns the marks of what it no longer has."""
    assert (backed_marks({"evt_1": mark}, [POSITION]) == {"evt_1"}) is counts


@pytest.mark.parametrize("text", ["", "x", "a:b:c:d", "t:1:2"])
def test_a_mark_of_another_making_is_unknown(text: str) -> None:
    """What we did not write there says nothing."""
    assert Mark.decode(text) is None


def test_marks_come_back_as_written(server: fakeredis.FakeServer) -> None:
    """An event marked after its commit is seen before the next batch, for four days."""
    hints = hints_on(server)
    assert hints.after([], {"evt_1": MARK}, [])
    assert hints.before(["evt_1", "evt_2"], []).marks == {"evt_1": MARK}
    assert 0 < client_of(server).ttl(mark_key("evt_1")) <= 4 * 24 * 3600


def test_locks_are_told_held_and_released_by_their_owner_only(
    server: fakeredis.FakeServer,
) -> None:
    """Another's lock is counted, not waited for, and not released by us."""
    ours, theirs = hints_on(server), hints_on(server)
    assert theirs.before([], ["cus_1"]).locks_held_by_others == 0
    assert ours.before([], ["cus_1", "cus_2"]).locks_held_by_others == 1
    assert ours.before([], ["cus_2"]).locks_held_by_others == 0
    ours.after([], {}, ["cus_1", "cus_2"])
    assert client_of(server).exists(lock_key("cus_1")) == 1
    assert client_of(server).exists(lock_key("cus_2")) == 0


def test_changed_customers_lose_entry_and_lease(server: fakeredis.FakeServer) -> None:
    """After a commit neither the cached answer nor the right to fill it survives."""
    client = client_of(server)
    keys = [entitlement_key("gen1", "cus_1"), lease_key("gen1", "cus_1")]
    for key in keys:
        client.set(key, "old")
    assert hints_on(server).after(["cus_1"], {}, [])
    assert client.exists(*keys) == 0


def test_redis_away_is_not_known_and_opens_the_breaker() -> None:
    """Five failures in a row leave Redis alone; nothing raises, everything is counted."""
    calls = []

    def connect() -> Session:
        calls.append(1)
        raise redis.ConnectionError

    now = [0.0]
    client, registry = bounded(connect, Breaker(clock=lambda: now[0], jitter=lambda: 1.0))
    for _ in range(8):
        assert client.ask(RedisOperation.BEFORE, lambda _: 1) is None
    assert len(calls) == 5
    assert registry.get_sample_value("hookline_redis_breaker_open") == 1
    name = "hookline_redis_unknown_total"
    assert registry.get_sample_value(name, {"operation": "before"}) == 8
    assert client.problem() is not None
    now[0] = 0.51
    client.ask(RedisOperation.BEFORE, lambda _: 1)
    assert len(calls) == 6


def test_redis_that_hangs_is_given_up_in_time(server: fakeredis.FakeServer) -> None:
    """A call that does not return costs its limit once, and the next one gets a new connection."""
    release = threading.Event()
    client, _ = bounded(lambda: Session(client_of(server), "gen1"))
    assert client.ask(RedisOperation.BEFORE, lambda _: 1) == 1

    def hang(_session: Session) -> int:
        release.wait(5)
        return 1

    assert client.ask(RedisOperation.BEFORE, hang) is None
    assert client.ask(RedisOperation.BEFORE, lambda _: 2) == 2
    release.set()
    client.close()


def test_a_broken_session_is_never_used_again(server: fakeredis.FakeServer) -> None:
    """After a failure the generation is read anew: another server may be behind the address."""
    generations = iter(["gen1", "gen2"])
    client, _ = bounded(lambda: Session(client_of(server), next(generations)))
    assert client.ask(RedisOperation.BEFORE, lambda session: session.generation) == "gen1"

    def fail(_session: Session) -> str:
        raise redis.ConnectionError

    assert client.ask(RedisOperation.BEFORE, fail) is None
    assert client.ask(RedisOperation.BEFORE, lambda session: session.generation) == "gen2"


def test_a_connection_that_comes_too_late_is_nobodys(
    server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread given up while it connected never shares a connection with its successor."""
    monkeypatch.setattr("consumer.storage.bounded_redis.CONNECT_SECONDS", 0.05)
    release, done = threading.Event(), threading.Event()
    names = iter(["late", "current"])

    def connect() -> Session:
        name = next(names)
        if name == "late":
            release.wait(5)
        return Session(client_of(server), name)

    def note(session: Session) -> str:
        done.set()
        return session.generation

    client, _ = bounded(connect)
    assert client.ask(RedisOperation.BEFORE, note) is None
    monkeypatch.setattr("consumer.storage.bounded_redis.CONNECT_SECONDS", 5)
    assert client.ask(RedisOperation.BEFORE, lambda session: session.generation) == "current"
    done.clear()
    release.set()
    assert done.wait(5)
    assert client.ask(RedisOperation.BEFORE, lambda session: session.generation) == "current"
    client.close()
