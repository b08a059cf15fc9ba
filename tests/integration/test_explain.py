"""Explain on real storage: what was really applied, read in one snapshot, nothing written."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

import consumer.decode
from consumer.billing.entitlement import entitle
from consumer.recompute import StoredState
from consumer.storage.history import load_rows
from ops.cli import app
from ops.usage import UsageError
from schemas.plans import load_plans
from support.bench import Bench
from support.billing import Owned
from support.load import histories, shuffled
from support.pipeline import PLANS_TEXT
from support.stripe import DAY, T0, Json, checkout, event
from unit.billing.happenings import created, failed, updated

STARTED = created("incomplete", 0, latest_invoice="in_1") | {"id": "evt_created"}
ACTIVE = updated("active", 0, {"status": "incomplete"}, latest_invoice="in_1") | {"id": "evt_act"}
FAILURE = failed(DAY, "in_2", issued=T0 + DAY - 9) | {"id": "evt_failed"}
CHECKOUT = event(
    "checkout.session.completed", checkout(client_reference_id="user-7"), 0, id="evt_checkout"
)
OWN: list[Json] = [ACTIVE, STARTED, CHECKOUT, FAILURE]


@pytest.fixture
def explain(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Provide the command, with the settings of the bench."""
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", bench.url)
    monkeypatch.setenv("HOOKLINE_PLANS_FILE", str(tmp_path / "plans.toml"))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["explain", *arguments])

    return run


def document(result: Result) -> dict[str, Any]:
    """Return the JSON document that was printed."""
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_a_customer_in_words(bench: Bench, explain: Callable[..., Result]) -> None:
    """Answer, why, next and timeline, within 80 columns and without colour when piped."""
    bench.apply(OWN)
    result = explain("cus_1")
    assert result.exit_code == 0
    for words in (
        "cus_1 may use only the default tier, starter",
        "Reference: user-7",
        "sub_1 (past due, pro) decides.",
        "grace period ended on 16 Nov 2023 22:13 UTC",
        "A payment of in_2 gives access.",
        "> status changed: active -> past due",
        "> grace period started: to 16 Nov 2023 22:13 UTC",
        "> reference linked: user-7",
        "told nothing new: the row stays as it was",
        "[same second]",
    ):
        assert words in " ".join(result.stdout.split())
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in result.stdout


def test_the_answer_is_the_gatekeepers(
    bench: Bench, explain: Callable[..., Result], tmp_path: Path
) -> None:
    """The same rows give the same answer, for every customer, and nothing is warned of."""
    known = histories(12, "e")
    bench.apply(shuffled(known, copies=2))
    plans = load_plans(tmp_path / "plans.toml")
    for history in known:
        found = document(explain(history.truth.customer_id, "--json"))
        with bench.engine.connect() as connection:
            rows = [
                StoredState.read(row) for row in load_rows(connection, [history.truth.customer_id])
            ]
        answer = entitle(
            history.truth.customer_id,
            [Owned(row.subscription_id, row.row) for row in rows],
            datetime.now(UTC),
            plans,
            version=0,
        )
        expected = answer.to_document()
        assert {name: found["answer"][name] for name in ("tier", "entitled", "status")} == {
            name: expected[name] for name in ("tier", "entitled", "status")
        }
        assert found["warnings"] == []
        assert len(found["timeline"]) == len(history.events)


def test_as_of_and_without_store_nothing(bench: Bench, explain: Callable[..., Result]) -> None:
    """Both are computed; the rows stay as they are."""
    bench.apply(OWN)
    before = bench.query("SELECT * FROM subscriptions"), bench.query("SELECT * FROM customers")
    then = document(explain("cus_1", "--json", "--as-of", "2023-11-15T00:00:00Z"))
    assert (then["answer"]["tier"], then["answer"]["status"]) == ("pro", "active")
    assert then["later_entries"] == 1
    # All of it was applied just now, long after the moment in question.
    assert "the answer was starter, not entitled" in then["warnings"][0]
    left = document(explain("cus_1", "--json", "--without", "evt_failed", "--without", "evt_act"))
    assert left["without"]["events"] == ["evt_act", "evt_failed"]
    assert left["without"]["answer"]["status"] == "active"
    assert [one["left_out"] for one in left["timeline"]].count(True) == 2
    after = bench.query("SELECT * FROM subscriptions"), bench.query("SELECT * FROM customers")
    assert before == after
    shown = explain("cus_1", "--without", "evt_failed")
    assert "The answer would be pro, entitled, instead of starter, not entitled." in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evil"], "is no customer's id"),
        (["cus_1", "--without", "evt_nope"], "evt_nope is not recorded for cus_1"),
        (["cus_9", "--without", "evt_failed"], "evt_failed is not recorded for cus_9"),
        (["cus_1", "--as-of", "tuesday"], "give a moment as in"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    bench: Bench, explain: Callable[..., Result], arguments: list[str], sentence: str
) -> None:
    """The command's main turns it into exit code 2."""
    bench.apply(OWN)
    result = explain(*arguments)
    assert isinstance(result.exception, UsageError)
    assert sentence in str(result.exception)


def test_a_customer_never_seen_is_an_answer(explain: Callable[..., Result]) -> None:
    """Exit code 0, for the gatekeeper answers as well."""
    result = explain("cus_9")
    assert (result.exit_code, result.stdout.strip()) == (
        0,
        "cus_9 has never been seen: not entitled, starter by default.",
    )
    assert document(explain("cus_9", "--json"))["known"] is False


def test_rows_that_are_not_what_events_say_are_told(
    bench: Bench, explain: Callable[..., Result], tmp_path: Path
) -> None:
    """The answer stays the stored one, with a warning, until recompute has mended it."""
    bench.apply(OWN)
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE subscriptions SET status = 'active'"))
    found = document(explain("cus_1", "--json"))
    assert found["answer"]["entitled"] is True
    assert "sub_1: status" in found["warnings"][0]
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS_TEXT.replace('price_pro = "pro"', 'price_pro = "enterprise"'))
    shown = explain("cus_1")
    assert "! What is stored differs from what the recorded events say" in shown.stdout
    assert CliRunner().invoke(app, ["recompute", "--apply"]).exit_code == 0
    found = document(explain("cus_1", "--json"))
    assert found["warnings"] == []
    assert found["timeline"][-1]["title"] == "hookline recompute --apply"


def test_failed_events_are_shown_with_their_reason(
    bench: Bench, explain: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that was set aside is in the timeline, and the answer warns that it is missing."""
    moved = bench.apply([ACTIVE])

    def raising(_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(consumer.decode, "read_event", raising)
        bench.apply([FAILURE], moved)
    found = document(explain("cus_1", "--json"))
    assert found["answer"]["status"] == "active"
    assert found["warnings"] == [
        "evt_failed could not be applied and counts for nothing: see the timeline."
    ]
    assert found["timeline"][-1]["outcome"] == "failed"
    assert "open dead letter 1): ZeroDivisionError: a fault of ours" in found["timeline"][-1]["why"]
