"""Much at once: a long backlog, a storm of repeats, one customer that drowns the others."""

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random

import pytest

from ops.delivery import Delivery, deliver
from ops.simulator.history import History, World
from ops.simulator.life import Event
from ops.simulator.truth import CustomerTruth
from support.feed import Feed, Stream, pace
from support.forked import Fleet, memory_of
from support.invariants import behind, hold_invariants
from support.load import END
from support.logs import applied, replayed
from support.pipeline import SECRET
from support.polling import eventually
from support.ports import steady_port
from support.proving import PROVING, Proof, examples

BACKLOG = int(os.environ.get("HOOKLINE_FAULTS_BACKLOG", examples(200_000, 2_000)))
"""1,000,000 records take half an hour; the variable asks for them."""

LARGE_BACKLOG = examples(5_000, 60)
LARGE_BYTES = 50_000
MEMORY_BYTES = 400_000_000

STORM_EVENTS = examples(1_000, 60)
STORM_COPIES = examples(50, 10)
GROUP = 100
INGESTS = [f"ingest-{n}" for n in range(examples(3, 2))]
CONSUMERS = [f"consumer-{n}" for n in range(examples(4, 2))]

HOT_HISTORIES = examples(360, 18)
COLD_CUSTOMERS = examples(40, 2)
PACED_PER_SECOND = 300
NOISE_SECONDS = 1.0


@pytest.mark.parametrize("size", ["3 KB", "50 KB"])
def test_07_a_long_backlog_stays_out_of_memory(fleet: Fleet, proof: Proof, size: str) -> None:
    """However much waits, a consumer holds a bounded part of it."""
    feed, stream, random = Feed(fleet), Stream(f"backlog {size}", customers=250), proof.random
    count = BACKLOG if size == "3 KB" else LARGE_BACKLOG
    events: Iterable[Event] = stream.take(count)
    if size == "50 KB":
        events = (padded(event, random) for event in events)
    feed.publish(proof.track(events, count))
    feed.publish(stream.rest())
    names = CONSUMERS[:2]
    for name in names:
        fleet.spawn(name)
    most = 0

    def is_done() -> bool:
        nonlocal most
        most = max(most, *(memory_of(fleet.forked(name).pid) for name in names))
        assert most < MEMORY_BYTES
        return behind(fleet) == 0

    eventually(is_done, 1_800, "applying the backlog")
    hold_invariants(fleet, stream.known)
    proof.count(events=stream.taken, megabytes_at_most=most // 1_000_000)


def padded(event: Event, random: Random) -> Event:
    """Return an event of 50 KB: one with a field that hookline does not know."""
    document = json.loads(event.body)
    document["padding"] = random.randbytes((LARGE_BYTES - len(event.body)) // 2).hex()
    return replace(event, body=json.dumps(document).encode())


def test_25_a_storm_of_repeats(fleet: Fleet, proof: Proof) -> None:
    """Each event delivered many times at once, to several ingests: one row and one effect each."""
    stream = Stream("storm")
    events = [*stream.take(STORM_EVENTS), *stream.rest()]
    ports = [steady_port() for _ in INGESTS]
    for name, port in zip(INGESTS, ports, strict=True):
        fleet.spawn(name, HOOKLINE_INGEST_PORT=str(port))
    for name in CONSUMERS:
        fleet.spawn(name)
    fleet.all_ready()
    answers: list[Delivery] = []
    asyncio.run(storm(events, ports, answers, proof))
    deliveries = len(events) * STORM_COPIES
    assert len(answers) == deliveries
    assert {answer.answer.get("status") for answer in answers} == {"accepted"}
    hold_invariants(fleet, stream.known)
    counts = applied(fleet, *CONSUMERS), replayed(fleet, *CONSUMERS)
    assert counts == (len(events), deliveries - len(events))
    proof.count(events=len(events), deliveries=deliveries)


async def storm(
    events: list[Event], ports: list[int], answers: list[Delivery], proof: Proof
) -> None:
    """Send all copies of some events side by side, to all ingests, then of the next ones."""
    groups = [events[start : start + GROUP] for start in range(0, len(events), GROUP)]
    for some in proof.track(groups, len(groups)):
        copies = some * STORM_COPIES
        proof.random.shuffle(copies)
        async with asyncio.TaskGroup() as group:
            for number, port in enumerate(ports):
                part = copies[number :: len(ports)]
                url = f"http://127.0.0.1:{port}"
                group.create_task(deliver(part, url, SECRET, answers.append, patience=60))


def test_26_one_customer_with_most_of_the_traffic(fleet: Fleet, proof: Proof) -> None:
    """Nine tenths of all events are one customer's: everything is right, and the others go on."""
    cold = list(World("cold", END).histories(COLD_CUSTOMERS))
    hot = hot_customer(list(World("hot", END).histories(HOT_HISTORIES)))
    feed = Feed(fleet)
    fleet.spawn("consumer-1")
    eventually(fleet.members["consumer-1"].answers, 60)
    usual = list(World("usual", END).histories(COLD_CUSTOMERS))
    before = list(in_turn(usual, proof.random))
    both = list(in_turn([*cold, hot], proof.random))
    paced(feed, before, proof)
    eventually(lambda: behind(fleet) == 0, 60, "the usual traffic")
    paced(feed, both, proof)
    hold_invariants(fleet, [*usual, *cold, hot])
    normal, drowned = delay(fleet, usual), delay(fleet, cold)
    if PROVING:
        assert drowned < 3 * normal + NOISE_SECONDS
    proof.count(
        events=len(before) + len(both),
        others_p99_milliseconds=int(drowned * 1000),
        usual_p99_milliseconds=int(normal * 1000),
    )


def hot_customer(parts: list[History]) -> History:
    """Return one customer that has the subscriptions of all of these, and their events."""
    name = parts[0].truth.customer_id.removeprefix("cus_sim")
    events = [event for part in parts for event in renamed(part, name)]
    references = {part.truth.reference for part in parts} - {None}
    truth = CustomerTruth(
        f"cus_sim{name}",
        f"user_{name}" if references else None,
        tuple(one for part in parts for one in part.truth.subscriptions),
    )
    return History(tuple(events), truth)


def renamed(part: History, name: str) -> Iterator[Event]:
    """Yield a customer's events as another one's."""
    own = part.truth.customer_id.removeprefix("cus_sim")
    for event in part.events:
        body = event.body
        for prefix in ("cus_sim", "user_"):
            body = body.replace(f"{prefix}{own}".encode(), f"{prefix}{name}".encode())
        yield replace(event, body=body)


def in_turn(histories: list[History], random: Random) -> Iterator[Event]:
    """Yield all events in a random order."""
    events = [event for history in histories for event in history.events]
    random.shuffle(events)
    yield from events


def paced(feed: Feed, events: list[Event], proof: Proof) -> None:
    """Write events at a steady pace, as fast as it goes in `make test`."""
    rate = PACED_PER_SECOND if PROVING else 100_000
    for event in proof.track(pace(events, rate), len(events)):
        feed.produce(event)
    feed.flush()


def delay(fleet: Fleet, histories: list[History]) -> float:
    """Return the 99th percentile of the seconds from receipt to commit of these customers."""
    names = ",".join(f"'{history.truth.customer_id}'" for history in histories)
    (row,) = fleet.query(
        "SELECT percentile_cont(0.99) WITHIN GROUP "  # noqa: S608
        "(ORDER BY extract(epoch FROM processed_at - received_at)) "
        f"FROM webhook_events WHERE customer_id IN ({names})"
    )
    return float(row[0])
