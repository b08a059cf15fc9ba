"""What cannot be applied is set aside alone; a fault of our own stops us before it spreads."""

import time
from collections.abc import Callable

import psycopg
import pytest

from ops.simulator.history import History
from schemas.signature import sign
from support.faulty import READER, RaisingReader
from support.feed import Feed, Stream
from support.forked import Fleet
from support.invariants import hold_invariants
from support.load import check_outcome, find_mismatches, histories, shuffled
from support.pipeline import SECRET, Pipeline, hookline, is_ready, log_of, pids, recorded
from support.polling import eventually
from support.proving import Proof, examples
from support.rest import wait_for_rest
from support.stripe import Json, body, event, subscription
from support.topic import Given, Topic, Written

CONSUMERS = ("consumer-1", "consumer-2")


def execute(pipeline: Pipeline, *statements: str) -> None:
    """Change the database behind the consumers' backs."""
    with psycopg.connect(pipeline.variables["HOOKLINE_DATABASE_URL"], autocommit=True) as admin:
        for statement in statements:
            admin.execute(statement)


LETTERS = """
SELECT reason, partition, kafka_offset, body, error <> '' FROM dead_letters
WHERE resolved_at IS NULL
"""


def letters(pipeline: Pipeline) -> set[tuple[object, ...]]:
    """Return the open dead letters."""
    return set(pipeline.query(LETTERS))


def letters_of(reason: str, written: list[Written]) -> set[tuple[object, ...]]:
    """Return what must stand of records that were set aside."""
    return {(reason, w.partition, w.offset, w.body, True) for w in written}


def junk(events: list[Json]) -> list[Given]:
    """Return what a stranger may write: bytes, JSON of no shape, events that nobody signed."""
    found: list[Given] = []
    for number, given in enumerate(events):
        customer = str(given["data"]["object"].get("customer")).encode()
        content = (bytes([number % 256, 0xFF, 0]), b"[]", b"{}", body(given))[number % 4]
        signature = (b"", b"t=1,v1=00", b"\xff\xfe")[number % 3]
        headers = [("hookline_signature", signature)] if number % 2 else []
        found.append((customer if number % 5 else None, content, headers))
    return found


def test_27_poison(fleet: Fleet, log: Topic, proof: Proof) -> None:
    """Only what is bad is set aside, whole and with its place; after the fix all is as if never."""
    reader = RaisingReader(50)
    fleet.limits = {READER: reader}
    known = histories(examples(400, 60), "27")
    sick = next(h.truth for h in known if len(h.truth.subscriptions) == 1).customer_id
    execute(
        fleet,
        f"ALTER TABLE subscriptions ADD CONSTRAINT sick CHECK (customer_id <> '{sick}') NOT VALID",
    )
    fleet.start(*CONSUMERS)
    before = pids(fleet)
    events = shuffled(known)
    unsigned: list[Written] = []
    written: dict[str, Written] = {}
    step = 200
    for start in proof.track(range(0, len(events), step), len(events) // step + 1):
        part = events[start : start + step]
        unsigned += log.write(junk(part[: len(part) // 10]))
        records = log.send(part)
        written |= {str(e["id"]): w for e, w in zip(part, records, strict=True)}
        proof.count(events=len(part), strangers=len(part) // 10)
    wait_for_rest(fleet, 120)
    assert pids(fleet) == before
    assert all(is_ready(fleet, name) for name in CONSUMERS)
    assert recorded(fleet) == len(events)

    # Each letter is one bad record, byte by byte, and each bad record has one.
    ours = [event for event in events if reader.hits(str(event["id"]))]
    ids = {str(event["id"]) for event in ours}
    refused = dict(fleet.query("SELECT event_id, reason FROM dead_letters WHERE reason = 'data'"))
    sick_ids = {event.id for h in known if h.truth.customer_id == sick for event in h.events}
    assert refused
    assert set(refused) <= sick_ids
    assert letters(fleet) == (
        letters_of("unsigned", unsigned)
        | letters_of("handler", [written[id_] for id_ in ids])
        | letters_of("data", [written[id_] for id_ in refused])
    )
    proof.count(letters=len(letters(fleet)))
    check_others(fleet, known, ids | sick_ids)

    # After the fix an operator replays them, beside the consumers.
    fleet.stop()
    fleet.limits = {}
    execute(fleet, "ALTER TABLE subscriptions DROP CONSTRAINT sick")
    fleet.start(*CONSUMERS)
    for reason in ("handler", "data"):
        replayed = hookline(fleet, "dead-letters", "replay", "--reason", reason, "--yes")
        assert replayed.returncode == 0, replayed.stderr
    strangers = hookline(fleet, "dead-letters", "replay", "--reason", "unsigned", "--yes")
    assert strangers.returncode == 3, strangers.stderr
    wait_for_rest(fleet)
    check_outcome(fleet, known)
    assert letters(fleet) == letters_of("unsigned", unsigned)


def check_others(pipeline: Pipeline, known: list[History], bad: set[str]) -> None:
    """Demand that everything is right of the customers none of whose events is bad."""
    good = [h.truth for h in known if not bad & {event.id for event in h.events}]
    assert len(good) > len(known) // 4
    assert find_mismatches(pipeline, good) == []


GOOD = examples(100_000, 2_000)
STRANGERS = examples(10_000, 1_000)
ODD = (
    {"type": 5},
    {"created": "yesterday"},
    {"type": "customer.subscription.updated", "data": {"object": {"id": "sub_1", "items": 7}}},
    {"type": "customer.subscription.updated", "data": {"object": {"customer": "cus_\0"}}},
)
"""What makes no event of a signed body, over one that would be."""


def signed_poison(count: int) -> list[Given]:
    """Return bodies that Stripe's secret signs and that are no events, of so many customers."""
    found: list[Given] = []
    for number in range(count):
        odd = {"id": f"evt_poison{number}", "object": "event"} | ODD[number % len(ODD)]
        content = body(odd)
        signature = sign(content, SECRET, int(time.time())).encode()
        found.append((f"cus_{number}".encode(), content, [("hookline_signature", signature)]))
    return found


def unsigned_poison(count: int) -> list[Given]:
    """Return good events of so many customers that nobody signed, or not for these bytes."""
    found: list[Given] = []
    for number in range(count):
        given = subscription(id=f"sub_{number}", customer=f"cus_{number}")
        content = body(event("customer.subscription.created", given))
        other = sign(content + b" ", SECRET, int(time.time())).encode()
        headers = [[], [("hookline_signature", other)]][number % 2]
        found.append((f"cus_{number}".encode(), content, headers))
    return found


@pytest.mark.parametrize(
    ("reason", "make"), [("unsigned", unsigned_poison), ("undecodable", signed_poison)]
)
def test_27_a_flood_of_poison(
    fleet: Fleet, log: Topic, proof: Proof, reason: str, make: Callable[[int], list[Given]]
) -> None:
    """Ten thousand that cannot be applied, of as many customers: nobody halts, all else applies."""
    fleet.start(*CONSUMERS)
    before = pids(fleet)
    feed, stream = Feed(fleet), Stream(f"flood {reason}")
    # Most of it in one piece, so that whole batches hold nothing else.
    pieces = [STRANGERS // 2, *[STRANGERS // 100] * 50]
    written: list[Written] = []
    for piece in proof.track(pieces, len(pieces)):
        feed.publish(stream.take(GOOD // len(pieces)))
        written += log.write(make(piece))
    feed.publish(stream.rest())
    wait_for_rest(fleet, examples(600, 120))
    assert pids(fleet) == before
    assert all(is_ready(fleet, name) for name in CONSUMERS)
    assert recorded(fleet) == stream.taken
    assert letters(fleet) == letters_of(reason, written)
    check_outcome(fleet, stream.known)
    hold_invariants(fleet, stream.known, expect_dead_letters=True)
    proof.count(events=stream.taken, strangers=len(written))


@pytest.mark.parametrize("turn", examples([1, 2, 3, 4, 5], [2]))
@pytest.mark.parametrize("place", ["before_commit", "after_commit"])
def test_27_killed_while_a_batch_is_split(fleet: Fleet, log: Topic, place: str, turn: int) -> None:
    """Dying between the parts of a batch with refused data applies nothing twice, loses nothing."""
    known = histories(12, f"27 {place} {turn}")
    sick = known[5].truth.customer_id
    execute(fleet, f"ALTER TABLE subscriptions ADD CONSTRAINT sick CHECK (customer_id <> '{sick}')")
    log.send(shuffled(known))
    healthy = fleet.variables
    fleet.variables = {**healthy, "HOOKLINE_FAILPOINT": f"{place}:kill@{turn}"}
    fleet.start("consumer-1")
    eventually(lambda: not fleet.members["consumer-1"].is_alive(), what="its death")
    fleet.variables = healthy
    fleet.start("consumer-1")
    wait_for_rest(fleet)
    others = [h.truth for h in known if h.truth.customer_id != sick]
    assert find_mismatches(fleet, others) == []
    assert {row[0] for row in fleet.query("SELECT reason FROM dead_letters")} == {"data"}
    assert fleet.query("SELECT DISTINCT customer_id FROM dead_letters") == [(sick,)]


def test_27b_a_broken_deployment_restarted_for_ever(fleet: Fleet, log: Topic, proof: Proof) -> None:
    """It halts each time and sets aside no more than before its first halt; the fix applies all."""
    fleet.limits = {READER: RaisingReader(1)}
    fleet.start("consumer-1")
    known = histories(40, "27b")
    events = shuffled(known)
    # One by one, so that the first ones are set aside before there are enough to halt.
    first = 0
    while first < 30:
        log.send(events[first : first + 1])
        first += 1
        eventually(lambda n=first: len(letters(fleet)) == n, what="its letter")  # type: ignore[misc]
    log.send(events[first:])
    restarts = examples(30, 10)
    for number in proof.track(range(restarts), restarts):
        if number:
            fleet.spawn("consumer-1")
        member = fleet.members["consumer-1"]
        eventually(lambda m=member: not m.is_alive(), what="the halt")  # type: ignore[misc]
        assert log_of(fleet, "consumer-1").count('"event": "halted"') == number + 1
        assert len(letters(fleet)) < 50
        proof.count(halts=1)
    failed = {row[0] for row in fleet.query("SELECT event_id FROM dead_letters")}
    fleet.limits = {}
    fleet.start("consumer-1")
    log.send([event for event in events if str(event["id"]) in failed])
    check_all_mended(fleet, known)


def check_all_mended(pipeline: Pipeline, known: list[History]) -> None:
    """Demand that everything is as if nothing had ever failed."""
    wait_for_rest(pipeline)
    check_outcome(pipeline, known)
    assert letters(pipeline) == set()
