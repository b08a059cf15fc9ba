"""Redis away, slow, flushed, old, full or read-only costs time, never truth."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ops.embedded.ports import HOST, free_ports
from ops.embedded.valkey import Valkey
from ops.simulator.history import History
from schemas.redis_keys import entitlement_key, lock_key
from support.forked import Fleet
from support.load import check_outcome, histories, shuffled
from support.pipeline import Pipeline, counted, log_of, pids, recorded
from support.polling import eventually
from support.proving import Proof, examples
from support.proxy import Proxy
from support.rest import check_at_rest
from support.stripe import Json
from support.topic import Topic

CONSUMERS = ("consumer-1", "consumer-2")
HISTORIES = examples(200, 40)


@pytest.fixture
def proxy(valkey: Valkey) -> Iterator[Proxy]:
    """Provide what stands between hookline and it."""
    with Proxy(valkey.port) as found:
        yield found


@pytest.fixture
def deployed(fleet: Fleet, proxy: Proxy) -> Fleet:
    """Provide a deployment that knows Valkey through the proxy only."""
    fleet.variables = {
        **fleet.variables,
        "HOOKLINE_REDIS_URL": f"redis://{HOST}:{proxy.port}/0",
    }
    return fleet


def parts(events: list[Json], count: int) -> list[list[Json]]:
    """Cut a list into so many parts of about one length."""
    return [events[n * len(events) // count : (n + 1) * len(events) // count] for n in range(count)]


def breakers(pipeline: Pipeline) -> list[float]:
    """Return of each consumer whether it leaves Redis alone."""
    return [counted(pipeline.metrics(n), "hookline_redis_breaker_open")[""] for n in CONSUMERS]


AWAY: dict[str, Callable[[Proxy], object]] = {
    "refused": Proxy.refuse,
    "hang": Proxy.stall,
    "trickle": Proxy.trickle,
    "delay": lambda proxy: proxy.delay(0.2),
}


WHEN = ("at the start", "under load")
ALL = [(kind, when) for kind in AWAY for when in WHEN]
EACH_ONCE = [(kind, WHEN[number % 2]) for number, kind in enumerate(AWAY)]


@pytest.mark.parametrize(("kind", "when"), examples(ALL, EACH_ONCE))
def test_17_redis_away_or_slow(
    deployed: Fleet, proxy: Proxy, log: Topic, kind: str, when: str
) -> None:
    """Everything is applied without Redis; it is left alone, readiness says so and stays ready."""
    known = histories(HISTORIES // 2, f"17 {kind} {when}")
    pieces = parts(shuffled(known, copies=2), 12)
    if when == "at the start":
        AWAY[kind](proxy)
    deployed.start(*CONSUMERS)
    before = pids(deployed)
    for number, piece in enumerate(pieces):
        log.send(piece)
        if number == 3:
            eventually(lambda: recorded(deployed) > 0, what="the first batches")
            AWAY[kind](proxy)
    eventually(lambda: recorded(deployed) == sum(len(h.events) for h in known), 60)

    # Whoever works finds out; the sweeper asks once a second on its own.
    eventually(lambda: breakers(deployed) == [1, 1], 60, "leaving Redis alone")
    for name in CONSUMERS:
        status, document = deployed.readiness(name)
        assert (status, document["ready"]) == (200, True)
        assert document["checks"]["redis"] == "left alone after repeated failures"
    proxy.heal()
    check_at_rest(deployed, known)
    assert pids(deployed) == before


def test_17_a_consumer_leaves_while_redis_trickles(
    deployed: Fleet, proxy: Proxy, log: Topic
) -> None:
    """A call that Redis never lets end holds up no SIGTERM: it ends in order, with 0."""
    deployed.start("consumer-1")
    known = histories(10, "17 leaves")
    proxy.trickle()
    log.send(shuffled(known))
    eventually(lambda: recorded(deployed) == sum(len(h.events) for h in known))
    deployed.forked("consumer-1").terminate()
    eventually(lambda: not deployed.forked("consumer-1").is_alive(), what="its end")
    assert deployed.forked("consumer-1").exit_code == 0, deployed.log("consumer-1")[-2_000:]


def test_17_redis_killed_between_a_commit_and_what_follows(
    deployed: Fleet, valkey: Valkey, log: Topic
) -> None:
    """What was committed stands, its cache entries go later, nothing is applied twice."""
    deployed.variables = {
        **deployed.variables,
        "HOOKLINE_FAILPOINT": "before_redis_post:sleep=2",
    }
    deployed.start(*CONSUMERS)
    known = histories(HISTORIES, "17 between")
    events = shuffled(known, copies=2)
    log.send(events[: len(events) // 2])
    eventually(lambda: recorded(deployed) > 0, what="the first commit")
    valkey.kill()
    log.send(events[len(events) // 2 :])
    eventually(lambda: recorded(deployed) == len(events) // 2, 60, "applying without Redis")
    check_outcome(deployed, known)
    for name in CONSUMERS:
        assert counted(deployed.metrics(name), "hookline_redis_unknown_total")['operation="after"']
    valkey.start()
    check_at_rest(deployed, known)


def test_18_flushed_under_load(deployed: Fleet, valkey: Valkey, log: Topic, proof: Proof) -> None:
    """A Redis that forgets everything, again and again, costs look-ups and nothing else."""
    deployed.start(*CONSUMERS)
    known = histories(HISTORIES, "18 flushed")
    flushes = examples(100, 8)
    pieces = parts(shuffled(known, copies=3), flushes)
    with redis.Redis.from_url(valkey.url) as client:
        for piece in proof.track(pieces, flushes):
            log.send(piece)
            client.flushall()
            proof.count(flushes=1, deliveries=len(piece))
    check_at_rest(deployed, known)


def test_18_restarted_from_an_old_dump(
    deployed: Fleet, valkey: Valkey, log: Topic, tmp_path: Path
) -> None:
    """Marks and entries of yesterday hide no event and answer no question."""
    deployed.start(*CONSUMERS)
    known = histories(HISTORIES, "18 dump")
    pieces = parts(shuffled(known, copies=3), 3)
    folder = tmp_path / "own" / "valkey" / "appendonlydir"
    log.send(pieces[0])
    eventually(lambda: recorded(deployed) > 0, what="the first batches")
    shutil.copytree(folder, tmp_path / "old")
    log.send(pieces[1])
    valkey.kill()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "old", folder)
    valkey.start()
    log.send(pieces[2])
    check_at_rest(deployed, known)


def test_18_fail_over_that_lost_the_newest_writes(
    deployed: Fleet, valkey: Valkey, proxy: Proxy, log: Topic, tmp_path: Path
) -> None:
    """A replica that lacks the last marks and still has old locks takes over: no difference."""
    (port,) = free_ports(1)
    other = Valkey(tmp_path / "other", port)
    other.start()
    try:
        with redis.Redis.from_url(other.url) as replica:
            replica.replicaof(HOST, valkey.port)
            deployed.start(*CONSUMERS)
            known = histories(HISTORIES, "18 fail-over")
            pieces = parts(shuffled(known, copies=3), 3)
            log.send(pieces[0])
            eventually(lambda: replica.dbsize() > 0, what="the replica")
            replica.replicaof("NO", "ONE")
            log.send(pieces[1])
            eventually(lambda: recorded(deployed) > 100, what="more batches")
            proxy.lead_to(port)
            log.send(pieces[2])
            check_at_rest(deployed, known)
    finally:
        other.stop()


VERSIONS = "SELECT customer_id, version FROM customers"
REFUSING = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "read-only": (("REPLICAOF", HOST, "1"), ("REPLICAOF", "NO", "ONE")),
    "too few replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}
"""What makes Valkey refuse writes, and what ends it."""


@pytest.mark.parametrize("kind", REFUSING)
def test_18_redis_that_refuses_writes(
    deployed: Fleet, valkey: Valkey, log: Topic, kind: str
) -> None:
    """Everything is applied, and each cache entry is dropped once Redis takes writes again."""
    refuse, allow = REFUSING[kind]
    deployed.start(*CONSUMERS)
    known = histories(HISTORIES, f"18 {kind}")
    events = shuffled(known, copies=2)
    first = events[: len(events) // 3]
    log.send(first)
    done = len({str(event["id"]) for event in first})
    eventually(lambda: recorded(deployed) == done, what="the first batches")
    with redis.Redis.from_url(valkey.url) as client:
        entries = plant_entries(client, known)
        before = dict(deployed.query(VERSIONS))
        client.execute_command(*refuse)
        log.send(events[len(events) // 3 :])
        eventually(lambda: recorded(deployed) == len(events) // 2, 60, "applying all events")
        check_outcome(deployed, known)
        after = dict(deployed.query(VERSIONS))
        stale = [key for who, key in entries.items() if after[who] != before.get(who)]
        if kind != "full":
            # One that has no memory left still deletes.
            assert client.exists(*stale) > 0
            assert deployed.query("SELECT count(*) FROM cache_invalidations") != [(0,)]
        client.execute_command(*allow)
        # Of whom nothing changed the answer stays, and ours is no answer.
        client.delete("", *(set(entries.values()) - set(stale)))
        check_at_rest(deployed, known)
        assert client.exists(*stale) == 0


def plant_entries(client: "redis.Redis", known: list[History]) -> dict[str, str]:
    """Cache an answer for each customer, as a reader would have; returns the keys."""
    generation = str(client.info("server")["run_id"])
    customers = [history.truth.customer_id for history in known]
    keys = {customer: entitlement_key(generation, customer) for customer in customers}
    client.mset(dict.fromkeys(keys.values(), "old"))
    return keys


def test_19_lock_that_expires_during_work(
    deployed: Fleet, valkey: Valkey, log: Topic, proof: Proof
) -> None:
    """A lock that is somebody else's by now stays theirs; the row lock decides, both finish."""
    deployed.variables = {
        **deployed.variables,
        "HOOKLINE_FAILPOINT": "after_lock:sleep=0.3@*",
    }
    deployed.start("consumer-1")
    known = histories(examples(50, 5), "19")
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        for history in proof.track(known, len(known)):
            key = lock_key(history.truth.customer_id)
            log.send(shuffled([history]))
            eventually(lambda key=key: client.exists(key) == 1, what="the lock")  # type: ignore[misc]
            ours = client.getset(key, "another holder")
            assert ours not in {None, "another holder"}
            done = sum(len(h.events) for h in known[: known.index(history) + 1])
            eventually(lambda done=done: recorded(deployed) == done, what="its batches")  # type: ignore[misc]
            eventually(lambda done=done: events_logged(deployed) == done, what="their end")  # type: ignore[misc]
            assert client.get(key) == "another holder"
            client.delete(key)
            proof.count(lost_locks=1)
    check_at_rest(deployed, known)


def events_logged(pipeline: Pipeline) -> int:
    """Return how many events consumer-1 has written a line for, after Redis was done with."""
    lines = log_of(pipeline, "consumer-1").splitlines()
    counts = (line.split('"events": ')[1] for line in lines if '"batch_applied"' in line)
    return sum(int(count.split(",")[0].rstrip("}")) for count in counts)
