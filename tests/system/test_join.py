"""Hookline switched on beside customers of two years: what it never saw, and what is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.simulator.history import World
from schemas.envelope import header
from support.bench import Bench
from support.company import (
    END,
    JOIN,
    Run,
    command,
    company,
    deliver,
    mismatches,
    recent_events,
    stored,
)
from support.feed import Feed
from support.invariants import catch_up, hold_invariants, subject_of
from support.pipeline import Pipeline
from support.pipeline import hookline as hookline_of
from support.proving import SEED, Proof, examples
from support.stripe import DAY
from support.stripe_twin import KEY, StripeTwin, lose, serving

CUSTOMERS = examples(5_000, 72)
CUTS = 3
LISTED = ("customer", "subscription", "checkout.session")


@pytest.fixture
def twin() -> StripeTwin:
    """Provide an account at the moment when hookline is switched on."""
    return StripeTwin(now=JOIN)


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
    known = company(CUSTOMERS, SEED)
    coming = twin.live(known, JOIN)
    result = hookline("backfill", "--api")
    assert result.exit_code == 0, result.output
    after_one = stored(bench)
    assert hookline("backfill", "--api").exit_code == 0
    assert stored(bench) == after_one

    deliver(bench, recent_events(known, JOIN - 2 * DAY))
    for event in coming:
        twin.tell(event)
    assert mismatches(bench, known, twin, plans_file) == []
    proof.count(customers=len(known), events_to_come=len(coming))


def test_a_backfill_that_is_killed_goes_on_where_it_was(
    bench: Bench, hookline: Run, twin: StripeTwin, plans_file: Path, proof: Proof
) -> None:
    """Killed three times, the same command comes to the same end, and starts no list anew."""
    known = company(CUSTOMERS, SEED)
    coming = twin.live(known, JOIN)
    pages = sum(len(twin.objects[kind]) // twin.page for kind in twin.objects if kind in LISTED)
    for cut in range(1, CUTS + 1):
        _kill_at(twin, cut * pages // (CUTS + 1))
    before = len(twin.requests)
    result = hookline("backfill", "--api")
    assert result.exit_code == 0, result.output
    assert "going on with" in result.output
    asked = [params for _, path, params in twin.requests[before:] if path != "/v1/events"]
    assert "starting_after" in asked[0]
    deliver(bench, recent_events(known, JOIN - 2 * DAY, seed=2))
    for event in coming:
        twin.tell(event)
    assert mismatches(bench, known, twin, plans_file) == []
    proof.count(kills=CUTS)


def test_lost_deliveries_are_found_and_sent_and_nothing_else(
    pipeline: Pipeline, proof: Proof
) -> None:
    """Two in a hundred events never come: reconciled, all is true, and exactly those were sent."""
    known = list(World(SEED, END).histories(CUSTOMERS))
    twin = StripeTwin(now=END + DAY, page=examples(100, 10))
    events = [event for history in known for event in history.events]
    for event in events:
        twin.tell(event)
    delivered, lost = lose(events, twin, 0.02, SEED)
    assert lost
    Feed(pipeline).publish(delivered)
    # Without a key, with which they would send what was lost by themselves.
    pipeline.start("consumer-1", "consumer-2")
    catch_up(pipeline, 600)
    with serving(twin) as base:
        pipeline.variables = {
            **pipeline.variables,
            "HOOKLINE_STRIPE_API_KEY": KEY,
            "HOOKLINE_STRIPE_API_BASE": base,
        }
        dry = hookline_of(pipeline, "reconcile")
        assert f"{len(lost):,} NOT RECORDED" in dry.stdout.decode(), dry.stderr.decode()
        assert _reconciled(pipeline) == []
        wet = hookline_of(pipeline, "reconcile", "--yes")
        assert f"sent: {len(lost):,};" in wet.stdout.decode(), wet.stderr.decode()
        hold_invariants(pipeline, known)
        assert sorted(_reconciled(pipeline)) == sorted(event.id for event in lost)
        again = hookline_of(pipeline, "reconcile", "--since", "2026-01-01")
        assert "all recorded" in again.stdout.decode()
    proof.count(events=len(events), lost=len(lost))


def _reconciled(pipeline: Pipeline) -> list[str]:
    """Return the ids of the records that say that a reconciliation wrote them."""
    with subject_of(pipeline) as subject:
        assert subject.log is not None
        records = [
            record
            for partition, (low, end) in subject.log.bounds().items()
            for record in subject.log.read(partition, low, end)
        ]
    return [
        (header(record.headers, "ce_id") or b"").decode()
        for record in records
        if header(record.headers, "hookline_source") == b"reconcile"
    ]


def _kill_at(twin: StripeTwin, number: int) -> None:
    """Run a backfill, and kill it when the account is asked for the so-manieth time."""
    running: list[subprocess.Popen[bytes]] = []

    def kill(asked: int) -> None:
        if asked == number:
            os.kill(running[0].pid, signal.SIGKILL)

    twin.on_request = kill
    hookline = str(Path(sys.executable).parent / "hookline")
    running.append(subprocess.Popen([hookline, "backfill", "--api"]))  # noqa: S603 - our own
    assert running[0].wait(120) == -signal.SIGKILL
    twin.on_request = lambda _number: None
