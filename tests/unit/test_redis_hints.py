"""Redis as a hint: in time or "don't know", and never believed where the position disagrees."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis
from prometheus_client import CollectorRegistry

from consumer.storage.bounded_redis import BoundedRedis, Breaker
from consumer.storage.hints import Hints
from consumer.storage.marks import backed_marks
from consumer.storage.positions import Position
from consumer.storage.redis_session import NoGenerationError, Session
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics
from schemas.redis_keys import Mark, entitlement_key, lease_key, lock_key, mark_key
from support.polling import eventually

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


# --- probing


class Door:
    """The way to an in-memory Redis; what it does is said by `error` and `is_held`."""

    def __init__(self, server: fakeredis.FakeServer) -> None:
        self._server = server
        self.error: Exception | None = redis.ConnectionError()
        self.opened = threading.Event()
        self.opened.set()
        self.tries = 0
        self.now = 0.0
        breaker = Breaker(clock=lambda: self.now, jitter=lambda: 1.0)
        self.redis, self.registry = bounded(self.connect, breaker)

    def connect(self) -> Session:
        """Connect, or fail; each server behind the door is another generation."""
        self.tries += 1
        name = f"gen{self.tries}"
        assert self.opened.wait(10)
        if self.error:
            raise self.error
        return Session(client_of(self._server), name)

    def fail(self) -> None:
        """Let calls fail until Redis is left alone."""
        while not self.redis.problem():
            self.ask()

    def probe(self) -> bool:
        """Probe, and tell whether Redis is used again."""
        self.redis.probe()
        return self.redis.problem() is None

    def ask(self) -> str | None:
        """Return the generation that a call meets."""
        return self.redis.ask(RedisOperation.BEFORE, lambda session: session.generation)


@pytest.fixture
def door(server: fakeredis.FakeServer) -> Iterator[Door]:
    """Provide a Redis that is away, and a process that leaves it alone."""
    found = Door(server)
    found.fail()
    found.tries = 0
    yield found
    found.opened.set()
    found.redis.close()


def test_a_probe_finds_redis_back_before_the_breaker_closes(door: Door) -> None:
    """No pause is waited for: the next call goes over the connection that the probe made."""
    door.error = None
    assert door.ask() is None
    eventually(door.probe)
    assert door.registry.get_sample_value("hookline_redis_breaker_open") == 0
    assert door.ask() == "gen1"
    assert door.tries == 1


def test_each_probe_tries_anew_after_one_that_failed(door: Door) -> None:
    """Redis away is asked once with each call, not with every second one."""
    for tries in range(1, 5):
        door.redis.probe()
        eventually(lambda tries=tries: door.tries == tries)  # type: ignore[misc]
        assert door.redis.problem() is not None
        assert door.ask() is None


def test_a_probe_that_hangs_holds_nobody_up(door: Door) -> None:
    """While it waits, none is begun beside it; once it is through, the next call takes it."""
    door.opened.clear()
    door.error = None
    for _ in range(3):
        door.redis.probe()
        assert door.redis.problem() is not None
    door.opened.set()
    eventually(door.probe)
    assert (door.tries, door.ask()) == (1, "gen1")


def test_no_probe_while_redis_is_not_left_alone(door: Door) -> None:
    """A process that asks Redis anyway needs none."""
    door.now, door.error = 60.0, None
    door.redis.probe()
    assert door.tries == 0
    assert door.ask() == "gen1"
    door.redis.probe()
    assert door.tries == 1


def test_a_probe_of_an_earlier_failure_is_not_taken_for_a_later_one(door: Door) -> None:
    """What was connected to a server of then could lead to one that is gone."""
    door.opened.clear()
    door.redis.probe()
    door.now, door.error = 60.0, None
    door.opened.set()
    assert door.ask() is not None
    door.redis.probe()
    door.error = redis.ConnectionError()
    door.redis.ask(RedisOperation.BEFORE, _break)
    door.fail()
    door.redis.probe()
    assert door.redis.problem() is not None
    assert door.ask() is None


def _break(_session: Session) -> None:
    raise redis.ConnectionError


def test_a_probe_tells_what_a_person_must_put_right(door: Door) -> None:
    """Readiness has the sentence of the last one that failed."""
    door.error = NoGenerationError()
    door.redis.probe()
    eventually(lambda: not door.probe() and "+info" in str(door.redis.problem()))


def test_an_error_of_our_own_in_a_probe_is_raised(door: Door) -> None:
    """Only what Redis and the network may do is waited for."""
    door.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        eventually(door.probe)
