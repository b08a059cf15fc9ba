"""A consumer that freezes, loses its partitions and comes back overwrites nothing of its heirs."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import psycopg
import pytest

from consumer.failpoints import Place
from support.feed import Feed, Stream
from support.forked import SHORT, Fleet, Limits, is_stopped
from support.invariants import behind, catch_up, committed, hold_invariants, positions
from support.logs import lines
from support.pipeline import counted, owned
from support.polling import eventually
from support.proving import PROVING, Proof, examples

INSIDE: tuple[Place, ...] = ("after_lock", "after_fold", "before_commit", "in_commit")
OUTSIDE: tuple[Place, ...] = ("after_poll", "after_commit", "after_redis_pre", "before_redis_post")


@dataclass(frozen=True)
class Stopping:
    """How many stops, how long each, under which limits, how many consumers at once."""

    stops: int
    seconds: float
    limits: Limits
    members: int


QUICK = Stopping(examples(192, 6), 5.0, SHORT, examples(6, 3))
"""Longer than the session (2 s), the locks in Redis (2 s) and idle in transaction (2 s)."""

REAL = Stopping(8, 35.0, {}, 4)
"""Longer than the locks in Redis live (30 s) and the transaction may idle (10 s)."""


def stops(random: Random) -> Iterator[str]:
    """Yield failpoints: in turn inside the transaction and outside."""
    while True:
        for kinds in (INSIDE, OUTSIDE):
            yield f"{random.choice(kinds)}:stop@{random.randint(1, 3)}"


@pytest.mark.parametrize("how", [QUICK, REAL] if PROVING else [QUICK], ids=lambda how: how.seconds)
def test_02_stop_longer_than_every_limit(fleet: Fleet, proof: Proof, how: Stopping) -> None:
    """Frozen past session, lock and transaction, a consumer comes back and overwrites nothing."""
    fleet.limits = how.limits
    feed, stream = Feed(fleet), Stream(f"stops {how.seconds}")
    dormitory = Dormitory(fleet, stops(proof.random), how)
    fleet.spawn("successor")
    for _ in proof.track(range(how.stops), how.stops):
        deadline = time.monotonic() + 60 + 2 * how.seconds
        while not dormitory.wake_one():
            assert time.monotonic() < deadline, "nobody stops any more"
            if behind(fleet) == 0:
                feed.publish(stream.take(20))
        proof.count(stops=1)
    dormitory.close()
    feed.publish(stream.rest())
    hold_invariants(fleet, stream.known)
    proof.count(events=stream.taken)


class Dormitory:
    """Consumers that stop themselves at a failpoint, sleep their time, and are woken."""

    def __init__(self, fleet: Fleet, failpoints: Iterator[str], how: Stopping) -> None:
        self._fleet = fleet
        self._failpoints = failpoints
        self._seconds = how.seconds
        self._asleep: dict[str, float] = {}
        self._names = [f"consumer-{n}" for n in range(how.members)]
        for name in self._names:
            fleet.spawn(name, next(failpoints))

    def wake_one(self) -> bool:
        """Let the one that has slept its time come back, and start it anew; False if none has."""
        now = time.monotonic()
        for name in self._names:
            if name not in self._asleep and is_stopped(self._fleet.forked(name).pid):
                self._asleep[name] = now
        due = [name for name, since in self._asleep.items() if now - since > self._seconds]
        if not due:
            return False
        del self._asleep[due[0]]
        os.kill(self._fleet.forked(due[0]).pid, signal.SIGCONT)
        come_back(self._fleet, due[0])
        self._fleet.spawn(due[0], next(self._failpoints))
        return True

    def close(self) -> None:
        """End them all."""
        for name in self._names:
            self._fleet.forked(name).kill()


def come_back(fleet: Fleet, name: str) -> None:
    """See that a consumer that was frozen polls again, then stop it in order."""
    process = fleet.forked(name)
    eventually(fleet.members[name].answers, 60, f"{name} being ready again")
    process.terminate()
    eventually(lambda: not process.is_alive(), 60, f"{name} stopping")
    assert process.exit_code == 0, fleet.log(name)[-2_000:]


@pytest.mark.parametrize("place", ["after_lock", "before_commit"])
def test_03_a_stopped_transaction_does_not_hold_up_the_successor(
    fleet: Fleet, proof: Proof, place: str
) -> None:
    """The server ends the idle transaction of a frozen consumer, and the successor goes on."""
    fleet.limits = {} if PROVING else SHORT
    feed, stream = Feed(fleet), Stream(f"holder {place}")
    frozen = fleet.spawn("frozen", f"{place}:stop@2")
    eventually(fleet.members["frozen"].answers, 60)
    while not is_stopped(frozen.pid):
        feed.publish(stream.take(20))
        eventually(lambda: is_stopped(frozen.pid) or behind(fleet) == 0, 60)
    feed.publish(stream.rest())
    fleet.spawn("successor")
    catch_up(fleet, 60)
    os.kill(frozen.pid, signal.SIGCONT)
    come_back(fleet, "frozen")
    hold_invariants(fleet, stream.known)
    proof.count(transactions_left_open=1)


def test_03_a_backend_that_cannot_send_is_ended(fleet: Fleet, proof: Proof) -> None:
    """A transaction stuck in sending has no limit of its own: whom it blocks ends it."""
    feed, stream = Feed(fleet), Stream("stuck")
    fleet.spawn("consumer-1")
    feed.publish(stream.take(50))
    catch_up(fleet, 60)
    with psycopg.connect(fleet.variables["HOOKLINE_DATABASE_URL"]) as connection:
        connection.execute("SELECT next_offset FROM consumer_positions FOR UPDATE")
        # Sent and never read: the backend waits for room in the socket, outside every timeout.
        connection.pgconn.send_query(b"SELECT repeat('x', 100000) FROM generate_series(1, 10000)")
        connection.pgconn.flush()
        pid = connection.info.backend_pid
        eventually(lambda: is_sending(fleet, pid), what="the stuck backend")
        feed.publish(stream.rest())
        catch_up(fleet, 60)
        assert fleet.query(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}") == []  # noqa: S608
        connection.close()
    ended = counted(fleet.metrics("consumer-1"), "hookline_consumer_ended_backends_total")
    assert ended == {"": 1}
    hold_invariants(fleet, stream.known)
    proof.count(backends_ended=1)


def is_sending(fleet: Fleet, pid: int) -> bool:
    """Tell whether a backend waits for its client to read."""
    asked = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'ClientWrite'"  # noqa: S608
    return bool(fleet.query(asked))


def test_10_lost_partitions_are_not_committed(fleet: Fleet, proof: Proof) -> None:
    """Who comes back after its partitions were given away tells Kafka nothing about them."""
    rounds = examples(10, 1)
    feed, stream = Feed(fleet), Stream("lost")
    fleet.spawn("frozen")
    eventually(fleet.members["frozen"].answers, 60)
    for _ in proof.track(range(rounds), rounds):
        feed.publish(stream.take(300))
        eventually(lambda: sum(positions(fleet).values()) > 0, 60)
        eventually(lambda: owned(fleet, "frozen") == 12, 60, "owning all partitions")
        frozen = fleet.forked("frozen")
        os.kill(frozen.pid, signal.SIGSTOP)
        fleet.spawn("successor")
        feed.publish(stream.take(300))
        catch_up(fleet, 60)
        eventually(lambda: committed(fleet) == positions(fleet), 60, "the successor's commit")
        told = committed(fleet)
        before = len(lines(fleet, "frozen"))
        os.kill(frozen.pid, signal.SIGCONT)
        eventually(lambda: released(fleet, before), 60, "the loss being noticed")  # noqa: B023
        assert committed(fleet) == told
        fleet.forked("successor").stop()
        proof.count(losses=1)
    feed.publish(stream.rest())
    hold_invariants(fleet, stream.known)


def released(fleet: Fleet, before: int) -> bool:
    """Tell whether all partitions were released since that line of the log."""
    since = lines(fleet, "frozen")[before:]
    gone = {
        p
        for line in since
        if line.get("event") == "partitions_released"
        for p in line["partitions"]
    }
    return len(gone) == 12
