"""A consumer that dies, wherever it is, costs at most the batch it had in hand."""

import signal
from collections.abc import Iterator
from random import Random

import pytest

from consumer.failpoints import PLACES, Place
from consumer.loop import BATCH_RECORDS
from support.feed import Feed, Stream
from support.forked import Fleet
from support.invariants import behind, catch_up, committed, hold_invariants, positions
from support.logs import replayed
from support.polling import eventually
from support.proving import Proof, examples

KILLS = examples(500, len(PLACES))
EVENTS = examples(100_000, 2_000)
MEMBERS = [f"consumer-{n}" for n in range(examples(6, 3))]
EVENTS_A_KILL = 100
TURNS = 3

CRASHES = examples(25, 2)
CLASSIC = {
    "HOOKLINE_KAFKA_GROUP_PROTOCOL": "classic",
    "HOOKLINE_KAFKA_GROUP_INSTANCE_ID": "one",
}
"""A static member of the old protocol takes its own partitions back at once."""


def places(random: Random) -> Iterator[Place]:
    """Yield each place once in a random order, then again in another."""
    while True:
        yield from random.sample(PLACES, len(PLACES))


def test_01_kill_at_each_failpoint(fleet: Fleet, proof: Proof) -> None:
    """Killed at every place where one can die, a group loses and doubles nothing, catches up."""
    random, next_place = proof.random, places(proof.random)
    feed, stream = Feed(fleet), Stream("kills")
    armed: dict[str, Place] = {}

    def restart(name: str) -> None:
        armed[name] = next(next_place)
        turn = random.randint(1, TURNS) if armed[name] != "in_revoke" else 1
        fleet.spawn(name, f"{armed[name]}:kill@{turn}")

    for name in MEMBERS:
        restart(name)
    feed.publish(stream.take(EVENTS_A_KILL))
    for _ in proof.track(range(KILLS), KILLS):
        dead = wait_for_death(fleet, feed, stream, MEMBERS)
        assert fleet.forked(dead).exit_code == -signal.SIGKILL, fleet.log(dead)[-2_000:]
        proof.count(kills=1, **{armed[dead]: 1})
        restart(dead)
        feed.publish(stream.take(EVENTS_A_KILL))
    feed.publish(stream.take(max(0, EVENTS - stream.taken)))
    feed.publish(stream.rest())
    for name in MEMBERS:
        fleet.forked(name).kill()
        fleet.spawn(name)
    catch_up(fleet, examples(60, 120))
    hold_invariants(fleet, stream.known)
    # The stream holds each event once, so every duplicate is a record that was read again.
    again = replayed(fleet, *MEMBERS)
    assert again <= KILLS * BATCH_RECORDS
    proof.count(events=stream.taken, records_read_again=again)


@pytest.mark.parametrize(
    "place", examples(["before_commit", "in_commit", "after_commit"], ["before_commit"])
)
def test_01_kafka_is_never_ahead(fleet: Fleet, proof: Proof, place: Place) -> None:
    """Whenever one dies around COMMIT, Kafka holds no offset that PostgreSQL does not back."""
    feed, stream = Feed(fleet), Stream(f"ahead {place}")
    feed.publish(stream.take(200))
    for turn in examples([1, 2, 3], [2]):
        fleet.spawn("consumer-1", f"{place}:kill@{turn}")
        feed.publish(stream.take(100))
        wait_for_death(fleet, feed, stream, ["consumer-1"])
        told, stored = committed(fleet), positions(fleet)
        assert {p: offset for p, offset in told.items() if offset > stored.get(p, 0)} == {}
        proof.count(kills=1)
    feed.publish(stream.rest())
    fleet.spawn("consumer-1")
    hold_invariants(fleet, stream.known)


def wait_for_death(fleet: Fleet, feed: Feed, stream: Stream, names: list[str]) -> str:
    """Return the name of a consumer that has died; whoever waits for records gets some."""
    found: list[str] = []

    def is_one_dead() -> bool:
        found[:] = [name for name in names if not fleet.forked(name).is_alive()]
        if not found and behind(fleet) == 0:
            feed.publish(stream.take(10))
        return bool(found)

    eventually(is_one_dead, 60, "the next death")
    return found[0]


@pytest.mark.parametrize("variables", [{}, CLASSIC], ids=["dynamic", "static"])
def test_06_progress_between_crashes(fleet: Fleet, proof: Proof, variables: dict[str, str]) -> None:
    """A consumer that dies after its first batch, again and again, still gets through the log."""
    feed, stream = Feed(fleet), Stream("crashes")
    before = 0
    for crash in proof.track(range(CRASHES), CRASHES):
        feed.publish(stream.take(30))
        process = fleet.spawn("consumer-1", "after_commit:kill", **variables)
        eventually(lambda: not process.is_alive(), 60, "the crash")  # noqa: B023
        assert process.exit_code == -signal.SIGKILL, fleet.log("consumer-1")[-2_000:]
        after = sum(positions(fleet).values())
        assert after > before, crash
        before = after
    feed.publish(stream.rest())
    fleet.spawn("consumer-1", **variables)
    hold_invariants(fleet, stream.known)
    proof.count(crashes=CRASHES, events=stream.taken)
