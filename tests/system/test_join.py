"""Hookline switched on beside customers of two years: what it never saw, and what is lost."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from ops.simulator.history import History, World
from schemas.envelope import header
from support.bench import Bench
from support.company import (
    END,
    JOIN,
    Joined,
    Run,
    command,
    deliver,
    join,
    mismatches,
    stored,
)
from support.feed import Feed
from support.invariants import catch_up, hold_invariants, log_ends, subject_of
from support.pipeline import Pipeline
from support.pipeline import hookline as hookline_of
from support.polling import eventually
from support.proving import SEED, Proof, examples
from support.stripe import DAY
from support.stripe_twin import KEY, StripeTwin, lose, serving

CUSTOMERS = examples(5_000, 24)
AT_ONCE = 250
"""Customers whose events are in memory at a time where they come through Kafka."""

WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'subscriptions'::regclass AND NOT granted"
TURNS = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""
PAGE = examples(100, 10)
"""Stripe gives a hundred; few customers need small pages to have many."""


@pytest.fixture
def twin() -> StripeTwin:
    """Provide an account at the moment when hookline is switched on."""
    return StripeTwin(now=JOIN, page=PAGE)


@pytest.fixture
def plans_file(tmp_path: Path) -> Path:
    """Provide the file that the bench reads its plans from."""
    return tmp_path / "plans.toml"


@pytest.fixture
def hookline(bench: Bench, redis_url: str, plans_file: Path, twin: StripeTwin) -> Iterator[Run]:
    """Provide the command, with the settings of the bench and the twin's address."""
    with command(bench, redis_url, plans_file, twin) as run:
        yield run


def test_customers_from_before_are_as_stripe_has_them_and_stay_so(
    bench: Bench, hookline: Run, twin: StripeTwin, plans_file: Path, proof: Proof
) -> None:
    """Backfilled, then sent their events of the days around the join in any order: all is true."""
    twin.faults = 0.03
    joined = join(CUSTOMERS, SEED, twin)
    with proof.time("backfill"):
        result = hookline("backfill", "--api")
    assert result.exit_code == 0, result.output
    proof.count(requests=len(twin.requests))
    after_one = stored(bench)
    assert hookline("backfill", "--api").exit_code == 0
    assert stored(bench) == after_one
    _go_on(bench, joined, twin, plans_file, proof)


def test_a_backfill_that_is_killed_goes_on_where_it_was(
    bench: Bench, hookline: Run, twin: StripeTwin, plans_file: Path, proof: Proof
) -> None:
    """Killed while it asks, while it writes and while it asks again, it comes to the same end."""
    joined = join(CUSTOMERS, SEED, twin)
    _kill(bench, twin, "/v1/customers", 2, is_writing=False)
    _kill(bench, twin, "/v1/subscriptions", 2, is_writing=True)
    _kill(bench, twin, "/v1/checkout/sessions", 2, is_writing=False)
    before = len(twin.requests)
    result = hookline("backfill", "--api")
    assert result.exit_code == 0, result.output
    assert "going on with checkouts" in result.output
    asked = [params for _, path, params in twin.requests[before:] if path != "/v1/events"]
    assert "starting_after" in asked[0]
    proof.count(kills=3)
    _go_on(bench, joined, twin, plans_file, proof)


def test_lost_deliveries_are_found_and_sent_and_nothing_else(
    pipeline: Pipeline, proof: Proof
) -> None:
    """Two in a hundred events never come: reconciled, all is true, and exactly those were sent."""
    twin = StripeTwin(now=END + DAY, page=PAGE)
    known, lost = _publish(pipeline, twin)
    assert lost
    # Without a key, with which they would send what was lost by themselves.
    pipeline.start("consumer-1", "consumer-2")
    with proof.time("catching up"):
        catch_up(pipeline, 600)
    with serving(twin) as base:
        pipeline.variables = {
            **pipeline.variables,
            "HOOKLINE_STRIPE_API_KEY": KEY,
            "HOOKLINE_STRIPE_API_BASE": base,
        }
        written = log_ends(pipeline)
        dry = hookline_of(pipeline, "reconcile")
        assert f"{len(lost):,} NOT RECORDED" in dry.stdout.decode(), dry.stderr.decode()
        assert log_ends(pipeline) == written
        with proof.time("reconcile"):
            wet = hookline_of(pipeline, "reconcile", "--yes")
        assert f"sent: {len(lost):,};" in wet.stdout.decode(), wet.stderr.decode()
        with proof.time("check"):
            hold_invariants(pipeline, known)
        assert sorted(_reconciled(pipeline)) == sorted(lost)
        again = hookline_of(pipeline, "reconcile", "--since", "2026-01-01")
        assert "all recorded" in again.stdout.decode()
    events = sum(len(history.events) for history in known)
    proof.count(customers=len(known), events=events, lost=len(lost), requests=len(twin.requests))


def _go_on(bench: Bench, joined: Joined, twin: StripeTwin, plans_file: Path, proof: Proof) -> None:
    """Deliver what is sent from the join on, let it happen at Stripe, and demand what is true."""
    with proof.time("delivery"):
        deliver(bench, joined.sent)
    for event in joined.coming:
        twin.tell(event)
    with proof.time("check"):
        found = mismatches(bench, joined.truths, twin, plans_file)
    assert found == []
    proof.count(customers=len(joined.truths), events=joined.events, delivered=len(joined.sent))


def _publish(pipeline: Pipeline, twin: StripeTwin) -> tuple[list[History], list[str]]:
    """Write all but what is lost to Kafka; return the customers, without bodies, and the lost."""
    feed = Feed(pipeline)
    known: list[History] = []
    lost: list[str] = []
    histories = World(SEED, END).histories(CUSTOMERS)
    while some := list(islice(histories, AT_ONCE)):
        events = [event for history in some for event in history.events]
        for event in events:
            twin.tell(event)
        delivered, gone = lose(events, twin, 0.02, SEED)
        feed.publish(delivered)
        lost += [event.id for event in gone]
        for history in some:
            bare = tuple(replace(event, body=b"") for event in history.events)
            known.append(replace(history, events=bare))
    return known, lost


def _reconciled(pipeline: Pipeline) -> list[str]:
    """Return the ids of the records that say that a reconciliation wrote them."""
    with subject_of(pipeline) as subject:
        assert subject.log is not None
        return [
            (header(record.headers, "ce_id") or b"").decode()
            for partition, (low, end) in subject.log.bounds().items()
            for record in subject.log.read(partition, low, end)
            if header(record.headers, "hookline_source") == b"reconcile"
        ]


def _kill(bench: Bench, twin: StripeTwin, path: str, page: int, *, is_writing: bool) -> None:
    """Run a backfill, and kill it when it asks for a page of a list, or when it writes that."""
    running: list[subprocess.Popen[bytes]] = []
    asked = 0

    def watch(number: int) -> None:
        nonlocal asked
        asked += twin.requests[number][1] == path
        if asked != page or twin.requests[number][1] != path:
            return
        if is_writing:
            blocker.execute("LOCK TABLE subscriptions IN SHARE MODE")
        else:
            running[0].kill()

    with psycopg.connect(bench.url) as blocker:
        twin.on_request = watch
        hookline = str(Path(sys.executable).parent / "hookline")
        running.append(subprocess.Popen([hookline, "backfill", "--api"]))  # noqa: S603 - our own
        if is_writing:
            eventually(lambda: bench.query(WAITING) == [(1,)], 60, "waiting for the lock")
            running[0].kill()
        assert running[0].wait(120) == -signal.SIGKILL
        twin.on_request = lambda _number: None
    # Its server processes notice in their own time, and hold the backfill's turn until then.
    eventually(lambda: bench.query(TURNS) == [(0,)], 60, "the end of its connections")
