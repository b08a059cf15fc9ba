"""The demo: it finds nothing where nothing is wrong, and names what is, customer by customer."""

import asyncio
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ops.demo.breaking import PARTS
from ops.demo.counters import count_between, read_counters
from ops.embedded.processes import Process, running_pid
from ops.embedded.stack import is_in_use
from ops.invariants.events import find_missing
from ops.invariants.subject import Sent
from ops.invariants.truth import check_answers
from ops.simulate import Traffic, simulate
from ops.simulator.history import History
from ops.simulator.truth import GRACE_SECONDS
from ops.up import own_command
from support.invariants import engine_of
from support.load import find_mismatches
from support.pipeline import Pipeline, recorded
from support.polling import eventually
from support.up import free_ports_of_up

OWN_STACK = os.environ.get("HOOKLINE_TEST_STACK", "embedded") == "embedded"
TRAFFIC = Traffic.choose(customers=40, seed="demo", end="2026-11-01", shape="both", duplicates=0.3)


@pytest.fixture
def simulated(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Pipeline, list[History]]:
    """Provide a deployment that has applied a simulated load."""
    pipeline.start("ingest", "consumer-1", "consumer-2", "gatekeeper")
    for name in ("HOOKLINE_INGEST_URL", "HOOKLINE_WEBHOOK_SECRETS"):
        monkeypatch.setenv(name, pipeline.variables[name])
    ports = [pipeline.members[f"consumer-{n}"].port for n in (1, 2)]
    before = read_counters(ports)
    ledger = tmp_path / "ledger.jsonl"
    assert simulate(TRAFFIC, ledger) == 0
    histories = list(TRAFFIC.world.histories(TRAFFIC.customers))
    events = {event.id for history in histories for event in history.events}
    eventually(lambda: recorded(pipeline) == len(events), what="applying all events")

    # What was answered 200 stands in the ledger, and each delivery was applied or dropped.
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert {line["event"] for line in lines} == events

    def is_counted() -> bool:
        """Tell whether the consumers have counted every delivery."""
        counted = count_between(before, read_counters(ports))
        assert counted is not None
        return (counted.recorded, counted.dropped) == (len(events), len(lines) - len(events))

    eventually(is_counted, what="counting each delivery once")
    return pipeline, histories


PLANTED = (
    ("UPDATE subscriptions SET status = 'paused' WHERE subscription_id = :sub", "status is paused"),
    ("UPDATE subscriptions SET tier = 'gold' WHERE subscription_id = :sub", "tier is gold"),
    ("UPDATE subscriptions SET prices = '{}' WHERE subscription_id = :sub", "prices is ()"),
    (
        "UPDATE subscriptions SET grace_until = '2026-01-01Z' WHERE subscription_id = :sub",
        "grace_until is 1767225600",
    ),
    (
        (
            "UPDATE subscriptions SET cancel_at_period_end = NOT cancel_at_period_end "
            "WHERE subscription_id = :sub"
        ),
        "cancel_at_period_end is",
    ),
    ("DELETE FROM subscriptions WHERE subscription_id = :sub", "has no row"),
    (
        (
            "INSERT INTO subscriptions SELECT 'sub_x', customer_id, status, tier, prices, "
            "cancel_at_period_end, cancel_at, current_period_end, latest_invoice, grace_until, "
            "ambiguous, facts, version FROM subscriptions WHERE subscription_id = :sub"
        ),
        "sub_x is made up",
    ),
    ("UPDATE customers SET reference = 'x' WHERE customer_id = :customer", "reference is x"),
    (
        (
            "INSERT INTO billing_audit (event_id, customer_id, subscription_id, action, "
            "event_created_at) SELECT 'evt_x', customer_id, subscription_id, action, now() "
            "FROM billing_audit WHERE subscription_id = :sub AND action = 'subscription_started'"
        ),
        "subscription_started stands 2 times",
    ),
    (
        (
            "INSERT INTO billing_audit (event_id, customer_id, subscription_id, action, "
            "event_created_at) SELECT event_id, customer_id, subscription_id, action, now() "
            "FROM billing_audit WHERE customer_id = :customer"
        ),
        "had its effect 2 times",
    ),
    (
        (
            "INSERT INTO dead_letters (event_id, customer_id, reason, error, topic, partition, "
            "kafka_offset, headers) VALUES ('evt_x', :customer, 'handler', 'x', 't', 0, 0, '[]')"
        ),
        "evt_x is a dead letter (handler: x)",
    ),
)
"""What is changed behind everybody's back, and what the comparison must say of it."""


def test_a_right_outcome_matches_and_each_planted_difference_is_named(
    simulated: tuple[Pipeline, list[History]],
) -> None:
    """Nothing mismatches after real traffic; every kind of wrong is told with its customer."""
    pipeline, histories = simulated
    truths = [history.truth for history in histories]
    assert find_mismatches(pipeline, truths) == []

    victims = truths[: len(PLANTED)]
    with engine_of(pipeline).begin() as connection:
        for victim, (statement, _) in zip(victims, PLANTED, strict=True):
            sub = victim.subscriptions[0].subscription_id
            values = {"customer": victim.customer_id, "sub": sub}
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            assert connection.execute(text(statement), used).rowcount > 0, statement
    found = find_mismatches(pipeline, truths)
    for victim, (_, words) in zip(victims, PLANTED, strict=True):
        assert any(m.where == victim.customer_id and words in m.what for m in found), words
    assert {mismatch.where for mismatch in found} == {victim.customer_id for victim in victims}


def test_a_lost_event_is_found(simulated: tuple[Pipeline, list[History]]) -> None:
    """An event that was accepted and does not stand recorded is named, and no other."""
    pipeline, histories = simulated
    events = {
        event.id: Sent(history.truth.customer_id, datetime.fromtimestamp(event.created, UTC))
        for history in histories
        for event in history.events
    }
    lost = histories[3].events[2].id
    with engine_of(pipeline).begin() as connection:
        assert find_missing(connection, events) == set()
        connection.execute(
            text("DELETE FROM webhook_events WHERE event_id = :lost"), {"lost": lost}
        )
        assert find_missing(connection, events) == {lost}


@pytest.mark.parametrize("field", ["tier", "status", "unpaid_since"])
def test_a_wrong_answer_of_the_gatekeeper_is_named(
    simulated: tuple[Pipeline, list[History]], field: str
) -> None:
    """An answer that differs from the truth in any part is a mismatch."""
    pipeline, histories = simulated
    truth = next(h.truth for h in histories if len(h.truth.subscriptions) == 1
                 and h.truth.subscriptions[0].status == "active")  # fmt: skip
    other: dict[str, Any] = {"tier": "pro", "status": "past_due", "unpaid_since": 5}
    if truth.subscriptions[0].tier == "pro":
        other["tier"] = "enterprise"
    wrong = replace(
        truth, subscriptions=(replace(truth.subscriptions[0], **{field: other[field]}),)
    )
    url = pipeline.variables["HOOKLINE_GATEKEEPER_URL"]
    assert asyncio.run(check_answers(url, None, [truth], GRACE_SECONDS)) == []
    found = asyncio.run(check_answers(url, None, [wrong], GRACE_SECONDS))
    assert {mismatch.where for mismatch in found} == {truth.customer_id}


# --- the command itself, on servers of its own


@pytest.fixture(scope="module")
def own_environment() -> dict[str, str]:
    """Provide ports of our own for everything that `up` runs."""
    return {**os.environ, **free_ports_of_up(), "COLUMNS": "100"}


def demo(
    data_dir: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [*own_command(), "demo", "--data-dir", str(data_dir), "--no-stay", *arguments]
    return subprocess.run(  # noqa: S603 - our own command line
        command, env=environment, capture_output=True, text=True, timeout=170, check=False
    )


@pytest.fixture(scope="module")
def own_up(
    tmp_path_factory: pytest.TempPathFactory, own_environment: dict[str, str]
) -> Iterator[Path]:
    """Provide the folder of an `up` that runs."""
    folder = tmp_path_factory.mktemp("up") / "data"
    process = Process("up", folder, environment=own_environment)
    process.start([*own_command(), "up", "--data-dir", str(folder)])
    process.wait_ready(lambda: "ready after" in process.log.read_text(), 90)
    yield folder
    process.stop()


@pytest.mark.skipif(not OWN_STACK, reason="runs an up of its own")
@pytest.mark.parametrize("part", [None, *PARTS])
def test_demo_matches_whatever_is_broken(
    own_up: Path, own_environment: dict[str, str], tmp_path: Path, part: str | None
) -> None:
    """Each part killed three times under load: nothing lost, doubled or wrong, and exit 0."""
    report = tmp_path / "report.json"
    options = ["--customers", "60", "--json", str(report)]
    found = demo(own_up, own_environment, *options, *(["--break", part] if part else []))
    assert found.returncode == 0, found.stdout + found.stderr
    document = json.loads(report.read_text())
    assert document["mismatches"] == 0
    assert document["details"] == []
    assert set(document["invariants"].values()) == {"holds"}
    assert "invariants: I1 to I7, I10 hold\n" in found.stdout
    assert document["deliveries"] == document["events"] + document["duplicates"]
    assert document["answers"]["200"] == document["deliveries"]
    assert document["applied"] == document["events"]
    assert sum(document["customers_by_tier"].values()) == document["customers"] == 60
    assert document["events_per_second"] > 0
    delay = document["receipt_to_commit_seconds"]
    assert 0 < delay["p50"] <= delay["p95"] <= delay["p99"]
    if part is None:
        assert document["outage"] is None
        assert document["dropped_duplicates"] == document["duplicates"] > 0
    else:
        assert document["outage"]["kills"] == 3
        assert document["outage"]["is_mended"]
    assert running_pid(own_up, "kafka") is not None


@pytest.mark.skipif(not OWN_STACK, reason="runs an up of its own")
def test_demo_sent_again_changes_nothing(own_up: Path, own_environment: dict[str, str]) -> None:
    """The options that a run prints send the same bytes: all known, and still all right."""
    first = demo(own_up, own_environment, "--customers", "20")
    repeat = first.stdout.split("the same again:\n  hookline demo ")[1].splitlines()[0]
    again = demo(own_up, own_environment, *repeat.split())
    assert (first.returncode, again.returncode) == (0, 0), again.stdout + again.stderr
    assert "nothing was new" in again.stdout


@pytest.mark.skipif(not OWN_STACK, reason="runs an up of its own")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--break", "postgresql"], "--break postgresql: say redis, consumer, postgres, kafka"),
        (["--json", "no/such/folder/file"], "--json no/such/folder/file: cannot be written"),
    ],
)
def test_demo_refuses_in_a_sentence(
    own_up: Path, own_environment: dict[str, str], arguments: list[str], sentence: str
) -> None:
    """What was asked and cannot be done is said before anything is sent, with exit 2."""
    found = demo(own_up, own_environment, *arguments)
    assert found.returncode == 2
    assert sentence in found.stderr
    assert "deliveries" not in found.stdout


@pytest.mark.skipif(not OWN_STACK, reason="runs an up of its own")
def test_demo_does_not_run_against_half_a_deployment(
    tmp_path: Path, own_environment: dict[str, str]
) -> None:
    """A folder that is in use by something without an env file is told, and left alone."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = demo(tmp_path, own_environment)
    assert found.returncode == 2
    assert "is not ready: look at /readyz" in found.stderr


BROKEN = {
    "apply on arrival instead of merging": """
import consumer.fold
consumer.fold.merge = lambda known, new: new
""",
    "skip the dedup": """
import consumer.passes
from consumer.storage.postgres import PostgresTransaction
consumer.passes.backed_marks = lambda marks, positions: set()
PostgresTransaction.find_recorded = lambda self, created: {}
""",
    # Marks count only where the position backs them, so that guard is gone as well; and the
    # process dies once where every process may, between the mark and the commit.
    "mark before the commit, and believe it": """
import os, pathlib
import consumer.batch as batch
import consumer.passes as passes
passes.backed_marks = lambda marks, positions: set(marks)
fold = batch.Batch._fold
died = pathlib.Path(__file__).with_name("died")
def fold_and_mark(self, transaction, pass_, scope):
    fold(self, transaction, pass_, scope)
    self._hints.after([], passes.marks_of(pass_), [])
    if not died.exists():
        died.touch()
        os._exit(1)
batch.Batch._fold = fold_and_mark
""",
}


@pytest.mark.skipif(not OWN_STACK, reason="runs an up of its own")
@pytest.mark.parametrize("name", list(BROKEN))
def test_demo_names_the_customers_where_the_code_is_broken(
    tmp_path: Path, own_environment: dict[str, str], name: str
) -> None:
    """A consumer that does it wrong makes the demo exit 1; it stops all that it started."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text(BROKEN[name])
    code = {"PYTHONPATH": str(tmp_path / "code")}
    environment = own_environment | free_ports_of_up() | code
    # Slowly, or most duplicates come in the batch of their event, where they are dropped first.
    found = demo(tmp_path / "data", environment, "--customers", "20", "--rate", "150")
    assert found.returncode == 1, found.stdout + found.stderr
    assert re.search(r"mismatches of \d+ customers", found.stdout)
    assert "  cus_sim" in found.stdout
    assert not is_in_use(tmp_path / "data")
