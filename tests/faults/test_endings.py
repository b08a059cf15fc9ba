"""A consumer that is told to end: in order, with nothing to do again, or by force and safely."""

import os
import signal
import time

import pytest

from consumer.loop import BATCH_RECORDS
from support.feed import Feed, Stream, feeding
from support.forked import SESSION_SECONDS, Fleet
from support.invariants import behind, hold_invariants, positions
from support.logs import lines, replayed
from support.pipeline import counted, owned
from support.polling import eventually
from support.proving import Proof, examples

MEMBERS = [f"consumer-{n}" for n in range(examples(4, 2))]
ROUNDS = examples(5, 1)
EXIT_SECONDS = 20
DEADLINE_SECONDS = examples(20, 2)


def begin(fleet: Fleet, names: list[str], protocol: str, *, static: bool) -> None:
    """Start consumers, as static members or not, and wait until each owns its share."""
    for name in names:
        fleet.spawn(name, **identity(name, protocol, static=static))
    share = 12 // len(names)
    for name in names:
        eventually(fleet.members[name].answers, 60, f"{name} being ready")
        eventually(lambda: owned(fleet, name) == share, 60, f"{name} owning its share")  # noqa: B023


def identity(name: str, protocol: str, *, static: bool) -> dict[str, str]:
    """Return the settings of a member."""
    found = {"HOOKLINE_KAFKA_GROUP_PROTOCOL": protocol}
    return found | ({"HOOKLINE_KAFKA_GROUP_INSTANCE_ID": name} if static else {})


def end_in_order(fleet: Fleet, name: str) -> None:
    """Send SIGTERM, and see the process end in time with code 0."""
    process = fleet.forked(name)
    process.terminate()
    eventually(lambda: not process.is_alive(), EXIT_SECONDS, f"{name} ending")
    assert process.exit_code == 0, fleet.log(name)[-2_000:]


@pytest.mark.parametrize("members", [MEMBERS[:1], MEMBERS], ids=len)
def test_04_rolling_restart(fleet: Fleet, proof: Proof, members: list[str]) -> None:
    """Told to end under load, each finishes its batch, exits with 0, and nothing is done again."""
    feed, stream = Feed(fleet), Stream("rolling")
    begin(fleet, members, "consumer", static=False)
    with feeding(feed, stream, 200):
        for _ in proof.track(range(ROUNDS), ROUNDS):
            for name in members:
                applied = sum(positions(fleet).values())
                end_in_order(fleet, name)
                fleet.spawn(name)
                eventually(fleet.members[name].answers, 60, f"{name} being ready")
                eventually(lambda: sum(positions(fleet).values()) > applied, 60)  # noqa: B023
                proof.count(restarts=1)
    hold_invariants(fleet, stream.known)
    assert replayed(fleet, *members) == 0
    for name in members:
        dropped = counted(fleet.metrics(name), "hookline_consumer_duplicates_total")
        assert sum(dropped.values()) == 0, name
    proof.count(events=stream.taken)


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_04_static_members_restart_without_a_rebalance(
    fleet: Fleet, proof: Proof, protocol: str
) -> None:
    """A member with a name of its own comes back to its partitions; the others keep theirs."""
    feed, stream = Feed(fleet), Stream("static")
    begin(fleet, MEMBERS, protocol, static=True)
    with feeding(feed, stream, 200):
        for name in MEMBERS * ROUNDS:
            others = [other for other in MEMBERS if other != name]
            before = {other: moves(fleet, other) for other in others}
            began = time.monotonic()
            end_in_order(fleet, name)
            fleet.spawn(name, **identity(name, protocol, static=True))
            eventually(fleet.members[name].answers, 60, f"{name} being ready")
            eventually(lambda: owned(fleet, name) >= 1, 60)  # noqa: B023
            # The old protocol's session is the client's 45 s; a machine too busy proves nothing.
            if protocol == "classic" or time.monotonic() - began < SESSION_SECONDS:
                assert {other: moves(fleet, other) for other in others} == before
                proof.count(restarts=1)
    hold_invariants(fleet, stream.known)
    assert replayed(fleet, *MEMBERS) == 0


def moves(fleet: Fleet, name: str) -> int:
    """Return how often partitions came to a consumer or left it."""
    events = ("partitions_assigned", "partitions_released")
    return sum(line.get("event") in events for line in lines(fleet, name))


@pytest.mark.parametrize("place", ["before_commit", "after_commit"])
@pytest.mark.parametrize("signals", [1, 2], ids=["deadline", "second_term"])
def test_05_ended_by_force(fleet: Fleet, proof: Proof, place: str, signals: int) -> None:
    """A consumer that hangs is ended by a second TERM or after 20 s: not 0, one batch at most."""
    fleet.limits = {"consumer.app.STOP_SECONDS": DEADLINE_SECONDS}
    feed, stream = Feed(fleet), Stream(f"force {place} {signals}")
    hanging = fleet.spawn("consumer-1", f"{place}:sleep=300@2")
    eventually(fleet.members["consumer-1"].answers, 60)
    feed.publish(stream.take(50))
    eventually(lambda: behind(fleet) == 0 or hangs(fleet), 60)
    feed.publish(stream.take(50))
    eventually(lambda: hangs(fleet), 60, "hanging in a batch")
    standing = positions(fleet)
    hanging.terminate()
    eventually(lambda: bool(lines(fleet, "consumer-1", "stopping")), 60)
    if signals > 1:
        os.kill(hanging.pid, signal.SIGTERM)
    eventually(lambda: not hanging.is_alive(), DEADLINE_SECONDS + 20, "the end")
    assert hanging.exit_code == (-signal.SIGTERM if signals > 1 else 1)
    assert positions(fleet) == standing
    feed.publish(stream.rest())
    fleet.spawn("consumer-2")
    hold_invariants(fleet, stream.known)
    assert replayed(fleet, "consumer-2") <= BATCH_RECORDS
    proof.count(forced_ends=1, records_read_again=replayed(fleet, "consumer-2"))


def hangs(fleet: Fleet) -> bool:
    """Tell whether the consumer's session waits in its transaction, or after it, for a while."""
    found = fleet.query(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'hookline-consumer' "
        "AND datname = current_database() "
        "AND state_change < clock_timestamp() - interval '1.5 s'"
    )
    return bool(found)
