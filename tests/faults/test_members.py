"""Members that come and go: every partition has somebody who applies it, soon and once."""

import time
from itertools import count

from schemas.topics import PARTITIONS
from support.feed import Feed, Stream, feeding
from support.forked import Fleet
from support.invariants import hold_invariants, positions
from support.pipeline import counted, owned
from support.polling import eventually
from support.proving import Proof, examples

CHURN_SECONDS = examples(120, 8)
STILL_SECONDS = examples(10, 25)
"""Longest time without progress; `make test` is not the place to hold seconds against it."""

MOST_MEMBERS = 5
SCALE = examples(8, 3)


def test_08_members_come_and_go(fleet: Fleet, proof: Proof) -> None:
    """With a member joining or leaving twice a second, all goes on, and nobody stays paused."""
    random, numbers = proof.random, count(1)
    feed, stream = Feed(fleet), Stream("churn")
    members: list[str] = []
    fleet.spawn("consumer-0")
    eventually(fleet.members["consumer-0"].answers, 60)
    applied, moved_at, longest = 0, time.monotonic(), 0.0
    for _ in proof.track(range(CHURN_SECONDS * 10 // 4), CHURN_SECONDS * 10 // 4):
        if len(members) < 2 or (len(members) < MOST_MEMBERS and random.random() < 0.5):
            members.append(f"consumer-{next(numbers)}")
            fleet.spawn(members[-1])
            proof.count(joins=1)
        else:
            gone = members.pop(random.randrange(len(members)))
            if fleet.forked(gone).is_alive():
                fleet.forked(gone).terminate()
            proof.count(leaves=1)
        feed.publish(stream.take(20))
        time.sleep(random.uniform(0.25, 0.45))
        now, before = time.monotonic(), applied
        applied = sum(positions(fleet).values())
        moved_at = now if applied > before else moved_at
        longest = max(longest, now - moved_at)
        assert longest < STILL_SECONDS
    feed.publish(stream.rest())
    hold_invariants(fleet, stream.known)
    living = ["consumer-0", *members]
    eventually(lambda: shares(fleet, living) == PARTITIONS, 60, "all partitions having an owner")
    more = Stream("after the churn")
    feed.publish(more.take(200))
    feed.publish(more.rest())
    hold_invariants(fleet, [*stream.known, *more.known])
    stopped = "hookline_consumer_stopped_partitions"
    assert sum(counted(fleet.metrics(name), stopped)[""] for name in living) == 0
    proof.count(milliseconds_without_progress_at_most=int(longest * 1000), events=stream.taken)


def test_09_from_one_to_many_and_back(fleet: Fleet, proof: Proof) -> None:
    """Partitions spread over new members and come back from those that leave, under load."""
    feed, stream = Feed(fleet), Stream("scale")
    names = [f"consumer-{n}" for n in range(SCALE)]
    fleet.spawn(names[0])
    eventually(fleet.members[names[0]].answers, 60)
    with feeding(feed, stream, 200):
        eventually(lambda: owned(fleet, names[0]) == PARTITIONS, 60)
        for name in names[1:]:
            fleet.spawn(name)
        began = time.monotonic()
        fleet.all_ready()
        least, most = PARTITIONS // SCALE, -(-PARTITIONS // SCALE)
        eventually(
            lambda: (
                all(least <= owned(fleet, name) <= most for name in names)
                and shares(fleet, names) == PARTITIONS
            ),
            60,
            "the balance",
        )
        proof.count(milliseconds_to_balance=int((time.monotonic() - began) * 1000))
        for name in names[1:]:
            fleet.forked(name).terminate()
        eventually(lambda: owned(fleet, names[0]) == PARTITIONS, 60, "one owning all again")
    hold_invariants(fleet, stream.known)
    for name in names[1:]:
        eventually(lambda: fleet.forked(name).exit_code == 0, 20)  # noqa: B023
    proof.count(members=SCALE, events=stream.taken)


def shares(fleet: Fleet, names: list[str]) -> float:
    """Return how many partitions these consumers own together."""
    return sum(owned(fleet, name) for name in names)
