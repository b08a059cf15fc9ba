"""Redis as the batch sees it: its twin in memory and a real server keep the same promises."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from consumer.storage.bounded_redis import BoundedRedis, Breaker
from consumer.storage.hints import Hints
from consumer.storage.redis_session import Session, open_session
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics
from schemas.redis_keys import LOCK_SECONDS, MARK_SECONDS, Mark, entitlement_key, lock_key, mark_key
from support.twins.redis import MemoryBoundedRedis, MemoryRedis
from support.twins.turns import RealTurns

MARK = Mark("topic-id", 0, 3, 41)
Open = Callable[[], BoundedRedis]


@pytest.fixture(params=["memory", "redis"])
def connect(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Provide processes' ways to one Redis, in memory or real."""
    server = MemoryRedis()
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    opened: list[BoundedRedis] = []

    def open_one() -> BoundedRedis:
        metrics = RedisMetrics(CollectorRegistry())
        if url:
            opened.append(BoundedRedis(partial(open_session, url), metrics, call_seconds=5))
        else:
            opened.append(MemoryBoundedRedis(server, RealTurns(), metrics, Breaker()))
        return opened[-1]

    yield open_one
    for found in opened:
        found.close()


def test_marks_come_back_as_written_until_they_expire(connect: Open) -> None:
    """An event that is marked is seen by every process, for four days."""
    ours, theirs = connect(), connect()
    assert Hints(ours).after([], {"evt_1": MARK}, [])
    assert Hints(theirs).before(["evt_1", "evt_2"], []).marks == {"evt_1": MARK}
    left = theirs.ask(
        RedisOperation.BEFORE, lambda session: int(session.client.ttl(mark_key("evt_1")))
    )
    assert left is not None
    assert 0 < left <= MARK_SECONDS


def test_a_lock_is_released_by_its_owner_only(connect: Open) -> None:
    """Another's lock is counted and stays; one's own is taken again; each expires."""
    ours, theirs = connect(), connect()
    first, second = Hints(ours), Hints(theirs)
    assert first.before([], ["cus_1"]).locks_held_by_others == 0
    assert second.before([], ["cus_1", "cus_2"]).locks_held_by_others == 1
    assert first.before([], ["cus_1"]).locks_held_by_others == 0
    second.after([], {}, ["cus_1", "cus_2"])

    def held(session: Session) -> list[int]:
        return [int(session.client.ttl(lock_key(name))) for name in ("cus_1", "cus_2")]

    left = ours.ask(RedisOperation.BEFORE, held)
    assert left is not None
    assert 0 < left[0] <= LOCK_SECONDS
    assert left[1] < 0


def test_a_changed_customer_has_no_cached_answer(connect: Open) -> None:
    """The entries of this server's generation go, and only those of the customers named."""
    redis = connect()

    def fill(session: Session) -> bool:
        for name in ("cus_1", "cus_2"):
            session.client.set(entitlement_key(session.generation, name), "old")
        return True

    assert redis.ask(RedisOperation.BEFORE, fill)
    assert Hints(redis).after(["cus_1"], {}, [])

    def left(session: Session) -> list[str | None]:
        keys = [entitlement_key(session.generation, name) for name in ("cus_1", "cus_2")]
        return [str(value) if value else None for value in session.client.mget(keys)]

    assert redis.ask(RedisOperation.BEFORE, left) == [None, "old"]


def test_what_was_flushed_is_not_known(connect: Open) -> None:
    """After a flush no mark and no lock is left, and everything goes on."""
    redis = connect()
    hints = Hints(redis)
    hints.after([], {"evt_1": MARK}, [])
    hints.before([], ["cus_1"])
    assert redis.ask(RedisOperation.BEFORE, lambda session: bool(session.client.flushdb()))
    assert hints.before(["evt_1"], []).marks == {}
    assert Hints(connect()).before([], ["cus_1"]).locks_held_by_others == 0
