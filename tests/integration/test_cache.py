"""The cached read on a real PostgreSQL and a real Valkey: what is stored when, and what never."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumer.gatekeeper import AsyncGatekeeper, Gatekeeper, Malformed, Unreadable
from consumer.gatekeeper.line import CALL_SECONDS
from consumer.gatekeeper.primary import Fresh
from ops.embedded.ports import HOST
from ops.embedded.valkey import Valkey
from schemas.redis_keys import ENTITLEMENT_SECONDS
from support.polling import eventually
from support.proxy import Proxy
from support.reading import Store, reading, until_cached

CUSTOMER = "cus_1"
ACTIVE = ("sub_1", "active", "pro", None, None)


@pytest.fixture
def store(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Store]:
    """Provide a store with one customer."""
    found = Store(database_url, redis_url, tmp_path)
    found.add(CUSTOMER, ACTIVE)
    yield found
    found.close()


def test_the_second_answer_comes_out_of_the_cache(store: Store) -> None:
    """A miss is stored for 300 s, and the same answer then says where it came from."""

    async def run() -> None:
        async with reading(store.settings) as gatekeeper:
            first = await gatekeeper.by_customer(CUSTOMER)
            second = await gatekeeper.by_customer(CUSTOMER)
            assert (first.source, second.source) == ("database", "cache")
            assert (first.tier, first.version) == (second.tier, second.version) == ("pro", 7)
            never = [await gatekeeper.by_customer("cus_new") for _ in range(2)]
            assert [(a.source, a.tier, a.entitled) for a in never] == [
                ("database", "starter", False),
                ("cache", "starter", False),
            ]

    asyncio.run(run())
    left = store.redis.pttl(store.entry(CUSTOMER))
    assert 0 < left <= ENTITLEMENT_SECONDS * 1000
    assert not store.redis.exists(store.lease(CUSTOMER))


class Interrupted:
    """A primary that lets something happen after it has read and before it answers."""

    def __init__(self, gatekeeper: AsyncGatekeeper, then: Any) -> None:
        self._primary = gatekeeper.primary
        self._then = then

    async def by_customer(self, customer: str) -> Fresh:
        """Read, and let it happen."""
        fresh = await self._primary.by_customer(customer)
        self._then()
        return fresh


@pytest.mark.parametrize("what", ["drop", "flush", "expire", "another"])
def test_what_was_read_before_a_drop_is_not_stored_after_it(store: Store, what: str) -> None:
    """A reader whose lease is gone, or somebody else's by now, stores nothing."""
    registry = CollectorRegistry()

    def change() -> None:
        store.change(CUSTOMER, "enterprise")
        if what == "flush":
            store.redis.flushdb()
        elif what == "expire":
            store.redis.pexpire(store.lease(CUSTOMER), 1)
            eventually(lambda: not store.redis.exists(store.lease(CUSTOMER)))
        else:
            store.drop(CUSTOMER)
        if what == "another":
            store.redis.set(store.lease(CUSTOMER), "another")

    async def run() -> None:
        async with reading(store.settings, registry) as gatekeeper:
            gatekeeper.reader._primary = Interrupted(gatekeeper, change)  # type: ignore[assignment]  # noqa: SLF001
            assert (await gatekeeper.by_customer(CUSTOMER)).tier == "pro"

    asyncio.run(run())
    assert not store.redis.exists(store.entry(CUSTOMER))
    name = "hookline_gatekeeper_cache_leases_total"
    assert registry.get_sample_value(name, {"outcome": "lost"}) == 1


def test_who_finds_a_lease_taken_reads_and_stores_nothing(store: Store) -> None:
    """While somebody else fills an entry, others answer out of PostgreSQL and leave it alone."""
    store.redis.set(store.lease(CUSTOMER), "another", px=60_000)

    async def run() -> None:
        async with reading(store.settings) as gatekeeper:
            assert (await gatekeeper.by_customer(CUSTOMER)).source == "database"

    asyncio.run(run())
    assert not store.redis.exists(store.entry(CUSTOMER))
    assert store.redis.get(store.lease(CUSTOMER)) == b"another"


@pytest.mark.parametrize("value", [b"", b"old", b"{}", b'{"customer":"cus_1"}', b"\xff"])
def test_an_entry_that_cannot_be_read_is_stored_anew(store: Store, value: bytes) -> None:
    """What another version of hookline has stored counts as a miss."""
    store.redis.set(store.entry(CUSTOMER), value)

    async def run() -> None:
        async with reading(store.settings) as gatekeeper:
            answers = [await gatekeeper.by_customer(CUSTOMER) for _ in range(2)]
            assert [answer.source for answer in answers] == ["database", "cache"]

    asyncio.run(run())


@pytest.mark.parametrize("hours", [-1, 0, 1], ids=["clock behind", "true clock", "clock ahead"])
def test_access_ends_with_the_grace_period_although_cached(store: Store, hours: int) -> None:
    """Within a second of grace_until nobody is let in, and nobody before is kept out.

    Whatever the reader's own clock says: the entry ends by PostgreSQL's and Redis' own.
    """
    (end,) = store.database.execute("SELECT now() + interval '5 seconds'").fetchone() or ()
    store.add("cus_2", ("sub_2", "past_due", "pro", None, end))
    clock = timedelta(hours=hours)

    async def run() -> None:
        async with reading(store.settings) as gatekeeper:
            gatekeeper.reader._now = lambda: datetime.now(UTC) + clock  # noqa: SLF001
            first = await gatekeeper.by_customer("cus_2")
            assert (first.entitled, first.valid_until) == (True, end)
            if hours <= 0:
                assert (await until_cached(gatekeeper, "cus_2")).entitled
            sources = set()
            while True:
                before = datetime.now(UTC)
                answer = await gatekeeper.by_customer("cus_2")
                after = datetime.now(UTC)
                if not answer.entitled:
                    break
                sources.add(answer.source)
                assert before < end + timedelta(seconds=1)
                await asyncio.sleep(0.01)
            assert after > end
            assert answer.tier == "starter"
            assert hours <= 0 or sources == {"database"}

    asyncio.run(run())


@pytest.fixture
def own(valkey: Valkey, database_url: str, tmp_path: Path) -> Iterator[Store]:
    """Provide a store with one customer and a Redis of its own."""
    found = Store(database_url, valkey.url, tmp_path)
    found.add(CUSTOMER, ACTIVE)
    yield found
    found.close()


@pytest.mark.parametrize("way", ["refuse", "stall", "trickle"])
def test_redis_away_costs_the_cache_and_no_answer(own: Store, valkey: Valkey, way: str) -> None:
    """Answers come out of PostgreSQL at once; Redis back, they come out of the cache again."""
    registry = CollectorRegistry()

    async def run(proxy: Proxy) -> None:
        settings = own.settings.model_copy(
            update={"redis_url": SecretStr(f"redis://{HOST}:{proxy.port}/0")}
        )
        async with reading(settings, registry, CALL_SECONDS) as gatekeeper:
            await until_cached(gatekeeper, CUSTOMER)
            getattr(proxy, way)()
            async with asyncio.timeout(60):
                while gatekeeper.line.problem() is None:
                    assert (await gatekeeper.by_customer(CUSTOMER)).source == "database"
            value = registry.get_sample_value
            assert value("hookline_redis_breaker_open") == 1
            proxy.heal()
            await until_cached(gatekeeper, CUSTOMER)
            assert gatekeeper.line.problem() is None
            assert value("hookline_redis_breaker_open") == 0

    with Proxy(valkey.port) as proxy:
        asyncio.run(run(proxy))


def test_a_restarted_redis_is_another_generation(own: Store, valkey: Valkey) -> None:
    """Entries that a restart brings back out of its file are out of reach, without a write."""

    async def run() -> None:
        async with reading(own.settings) as gatekeeper:
            await until_cached(gatekeeper, CUSTOMER)
            old = own.entry(CUSTOMER)
            own.redis.config_set("appendfsync", "always")
            own.redis.set("written", "1")
            valkey.kill()
            own.change(CUSTOMER, "enterprise")
            valkey.start()
            assert own.redis.exists(old)
            assert (await gatekeeper.by_customer(CUSTOMER)).tier == "enterprise"
            assert (await until_cached(gatekeeper, CUSTOMER)).tier == "enterprise"

    asyncio.run(run())


REFUSALS = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "replica": (("REPLICAOF", HOST, "1"), ("REPLICAOF", "NO", "ONE")),
    "too few replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_redis_that_takes_no_writes_costs_no_answer(own: Store, kind: str) -> None:
    """Nothing is stored while it refuses, everything is answered; afterwards entries are stored."""
    refuse, allow = REFUSALS[kind]

    async def run() -> None:
        async with reading(own.settings) as gatekeeper:
            own.do(*refuse)
            for _ in range(20):
                assert (await gatekeeper.by_customer(CUSTOMER)).source == "database"
            own.do(*allow)
            await until_cached(gatekeeper, CUSTOMER)

    asyncio.run(run())


def test_without_info_nothing_is_cached_and_readiness_says_so(own: Store, valkey: Valkey) -> None:
    """A user whom an access list keeps from INFO gets answers, none of them cached."""
    own.do("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-info")
    url = SecretStr(f"redis://app:secret@{HOST}:{valkey.port}/0")
    settings = own.settings.model_copy(update={"redis_url": url})

    async def run() -> None:
        async with reading(settings) as gatekeeper:
            for _ in range(10):
                assert (await gatekeeper.by_customer(CUSTOMER)).source == "database"
            assert "+info" in str(gatekeeper.line.problem())
            assert "secret" not in str(gatekeeper.line.problem())

    asyncio.run(run())
    assert own.redis.dbsize() == 0


def test_cached_answers_outlive_postgresql(store: Store) -> None:
    """With PostgreSQL away who is cached is answered; who is not, is not guessed."""
    settings = store.settings.model_copy(
        update={"database_url": SecretStr("postgresql://u:p@127.0.0.1:1/db")}
    )

    async def run() -> None:
        async with reading(store.settings) as gatekeeper:
            await gatekeeper.by_customer(CUSTOMER)
        async with reading(settings) as gatekeeper:
            assert (await gatekeeper.by_customer(CUSTOMER)).source == "cache"
            with pytest.raises(Unreadable):
                await gatekeeper.by_customer("cus_2")
            store.redis.flushdb()
            with pytest.raises(Unreadable):
                await gatekeeper.by_customer(CUSTOMER)

    asyncio.run(run())


# --- in an application


def test_an_application_asks_from_any_thread(store: Store) -> None:
    """One Gatekeeper serves all threads of a process; its metrics go where it is told."""
    registry = CollectorRegistry()
    answers: list[str] = []
    with Gatekeeper(store.settings, registry=registry, redis_seconds=10) as gatekeeper:
        gatekeeper.by_customer(CUSTOMER)

        def ask() -> None:
            answers.extend(gatekeeper.by_customer(CUSTOMER).source for _ in range(50))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert gatekeeper.by_reference("nobody").customer is None
        with pytest.raises(Malformed):
            gatekeeper.by_customer("1")
        with pytest.raises(Malformed):
            gatekeeper.by_reference("")
    assert answers == ["cache"] * 200
    hits = registry.get_sample_value("hookline_gatekeeper_cache_reads_total", {"result": "hit"})
    assert hits == 200


def test_a_gatekeeper_asked_before_a_fork_says_so_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are no good to a child: it is told to make its own, instead of waiting."""
    with Gatekeeper(store.settings) as gatekeeper:
        gatekeeper.by_customer(CUSTOMER)
        with monkeypatch.context() as patch:
            patch.setattr("consumer.gatekeeper.client.os.getpid", lambda: -1)
            with pytest.raises(RuntimeError, match="fork"):
                gatekeeper.by_customer(CUSTOMER)


def test_connections_are_closed_with_the_gatekeeper(store: Store) -> None:
    """Closed twice or never used, it leaves neither a thread nor a connection."""
    Gatekeeper(store.settings).close()
    gatekeeper = Gatekeeper(store.settings)
    gatekeeper.by_customer(CUSTOMER)
    before = threading.active_count()
    gatekeeper.close()
    gatekeeper.close()
    assert threading.active_count() == before - 1
    connected = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hookline-gatekeeper' "
        "AND datname = current_database()"
    )
    eventually(lambda: store.database.execute(connected).fetchone() == (0,), what="the end")
