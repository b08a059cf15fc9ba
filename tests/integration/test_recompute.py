"""Recompute on real storage: no false alarm, every planted difference found and mended."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

import consumer.recall
from consumer.recompute import Mending, mend
from consumer.repair import Repair
from ops.cli import app
from ops.usage import UsageError
from schemas.plans import load_plans
from support.bench import Bench
from support.billing import GRACE
from support.load import histories, shuffled
from support.pipeline import PLANS_TEXT
from support.stripe import DAY, T0, Json, checkout, event, invoice
from unit.billing.happenings import created, failed, updated

OWN: list[Json] = [
    event(
        "checkout.session.completed", checkout(client_reference_id="user-7"), 0, id="evt_checkout"
    ),
    created("incomplete", 0),
    updated("active", 0, {"status": "incomplete"}, latest_invoice="in_1"),
    failed(DAY, "in_2", issued=T0 + DAY - 9),
]


@pytest.fixture
def plans_file(tmp_path: Path) -> Path:
    """Provide the file that the bench reads its plans from."""
    return tmp_path / "plans.toml"


@pytest.fixture
def recompute(
    bench: Bench, plans_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Provide the command, with the settings of the bench."""
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", bench.url)
    monkeypatch.setenv("HOOKLINE_PLANS_FILE", str(plans_file))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["recompute", *arguments])

    return run


def change(bench: Bench, statement: str) -> None:
    """Change the database by hand."""
    with bench.engine.begin() as connection:
        connection.execute(text(statement))


def state(bench: Bench) -> object:
    """Return all that recompute answers for, but for versions and times."""
    return (
        bench.query("SELECT customer_id, reference, reference_event_id FROM customers ORDER BY 1"),
        bench.query(
            "SELECT subscription_id, customer_id, status, tier, prices, cancel_at_period_end, "
            "cancel_at, current_period_end, latest_invoice, grace_until, ambiguous, facts "
            "FROM subscriptions ORDER BY 1"
        ),
    )


def test_shuffled_deliveries_leave_no_difference(
    bench: Bench, recompute: Callable[..., Result]
) -> None:
    """Folding all recorded events again gives the facts and rows that stand."""
    documents = shuffled(histories(60, "s"), copies=2)
    position = None
    for first in range(0, len(documents), 90):
        part = documents[first : first + 90]
        position = bench.apply(part, position) if position else bench.apply(part)
    result = recompute()
    assert result.exit_code == 0
    assert "60 customers" in result.stdout
    assert "no difference" in result.stdout


PLANTED = {
    "status": ("UPDATE subscriptions SET status = 'active'", "status  "),
    "grace": ("UPDATE subscriptions SET grace_until = NULL", "grace_until"),
    "prices": ("UPDATE subscriptions SET prices = '{other}'", "prices"),
    "facts": ("UPDATE subscriptions SET facts = facts - 1", "facts"),
    "wrong_facts": (
        """UPDATE subscriptions
        SET facts = CAST(replace(CAST(facts AS text), 'past_due', 'active') AS jsonb)""",
        "facts",
    ),
    "unreadable_facts": ("UPDATE subscriptions SET facts = '[99]'", "unreadable"),
    "row": ("DELETE FROM subscriptions", "missing -> past_due, pro"),
    "reference": ("UPDATE customers SET reference = 'other'", "other -> user-7"),
    "reference_event": ("UPDATE customers SET reference_event_id = 'evt_x'", "evt_x"),
    "no_reference": (
        """UPDATE customers
        SET (reference, reference_created_at, reference_event_id) = (NULL, NULL, NULL)""",
        "none -> user-7",
    ),
    "customer": ("DELETE FROM customers", "missing -> present"),
}


@pytest.mark.parametrize(("statement", "shown"), PLANTED.values(), ids=PLANTED)
def test_a_planted_difference_is_found_and_mended(
    bench: Bench, recompute: Callable[..., Result], statement: str, shown: str
) -> None:
    """Found without writing; written with --apply, one version on, the cache entry noted to go."""
    bench.apply(OWN)
    right = state(bench)
    versions = bench.query("SELECT version FROM customers")
    change(bench, statement)
    wrong = state(bench)
    change(bench, "DELETE FROM cache_invalidations")

    found = recompute()
    assert found.exit_code == 3
    assert shown in found.stdout
    assert state(bench) == wrong

    assert recompute("--apply").exit_code == 0
    assert state(bench) == right
    assert bench.query("SELECT customers FROM cache_invalidations") == [(["cus_1"],)]
    expected = versions[0][0] + 1 if shown != "missing -> present" else 1
    assert bench.query("SELECT version FROM customers") == [(expected,)]
    assert recompute().exit_code == 0


def test_mending_leaves_a_trail(bench: Bench, recompute: Callable[..., Result]) -> None:
    """What --apply changed stands in the audit trail under an id that is no event of Stripe's."""
    bench.apply(OWN)
    before = bench.query("SELECT max(version) FROM subscriptions")
    change(bench, "UPDATE subscriptions SET status = 'active', grace_until = NULL")
    assert recompute("--customer", "cus_1", "--apply").exit_code == 0
    trail = bench.query(
        "SELECT action, before->>'status', after->>'status' FROM billing_audit "
        "WHERE event_id LIKE 'recompute_%' ORDER BY audit_id"
    )
    assert trail == [("status_changed", "active", "past_due"), ("grace_period_started", None, None)]
    assert bench.query("SELECT version FROM subscriptions") == [(before[0][0] + 1,)]


def test_a_changed_plans_file_shows_what_would_change(
    bench: Bench, recompute: Callable[..., Result], plans_file: Path
) -> None:
    """A price that gives another tier now is told as such, and counted."""
    bench.apply([*OWN, created("active", 1, id="sub_2", customer="cus_2")])
    plans_file.write_text(PLANS_TEXT.replace('price_pro = "pro"', 'price_pro = "enterprise"'))
    result = recompute()
    assert result.exit_code == 3
    assert "2 subscriptions: tier pro -> enterprise" in result.stdout
    assert recompute("--apply").exit_code == 0
    assert bench.query("SELECT DISTINCT tier FROM subscriptions") == [("enterprise",)]


def test_facts_without_their_events_are_kept(
    bench: Bench, recompute: Callable[..., Result]
) -> None:
    """Retention drops events, not what they told: neither of subscriptions nor of customers."""
    bench.apply(OWN)
    for statement in (
        "DELETE FROM webhook_events WHERE type LIKE 'checkout%'",
        "DELETE FROM webhook_events WHERE type LIKE 'invoice%'",
        "DELETE FROM webhook_events",
    ):
        change(bench, statement)
        assert recompute().exit_code == 0


def test_failed_events_are_not_folded(
    bench: Bench, recompute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that failed told nothing, until it is applied."""
    bench.apply(OWN)
    change(bench, "UPDATE webhook_events SET outcome = 'failed' WHERE type LIKE 'invoice%'")
    result = recompute()
    assert result.exit_code == 3
    assert "past_due -> active" in result.stdout
    change(bench, "UPDATE webhook_events SET outcome = 'applied'")

    def raising(_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(consumer.recall, "read_event", raising)
    result = recompute()
    assert result.exit_code == 3
    assert "cannot be read any more: ZeroDivisionError" in result.stdout


def test_a_subscription_of_another_customer_is_no_difference(
    bench: Bench, recompute: Callable[..., Result]
) -> None:
    """Events of two customers about one subscription: the row stays with whom it began."""
    other = event(
        "invoice.payment_failed",
        invoice(id="in_9", customer="cus_0", issued=T0 + 2 * DAY),
        2 * DAY,
    )
    moved = bench.apply(OWN)
    bench.apply([other], moved)
    assert recompute().exit_code == 0
    change(bench, "UPDATE subscriptions SET facts = facts - 1 - 1, status = 'trialing'")
    assert recompute().exit_code == 3
    assert recompute("--apply").exit_code == 0
    assert recompute().exit_code == 0


def test_a_consumer_at_work_is_no_difference(bench: Bench, plans_file: Path) -> None:
    """Events and rows are compared as of one moment, whatever commits meanwhile."""
    documents = shuffled(histories(25, "w"), seed=3)
    done = threading.Event()
    found: list[object] = []
    repair = Repair(bench.engine, load_plans(plans_file), GRACE)

    def look() -> None:
        while not done.is_set():
            found.extend(one.differences for one in repair.examine_all() if not one.is_sound)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        position = bench.apply(documents[:5])
        for first in range(5, len(documents), 7):
            position = bench.apply(documents[first : first + 7], position)
    finally:
        done.set()
        looker.join()
    assert found == []


def test_a_batch_waits_for_mending_and_loses_nothing(
    bench: Bench, plans_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mending holds the locks of a batch from its reading to its commit."""
    position = bench.apply([updated("active", 0, {})])
    change(bench, "UPDATE subscriptions SET status = 'paused'")
    batch = threading.Thread(target=bench.apply, args=([updated("active", 0, {})], position))

    def mend_slowly(*arguments: Any) -> Mending:
        """Let a batch come between reading and writing, if it can."""
        batch.start()
        batch.join(timeout=1)
        return mend(*arguments)

    monkeypatch.setattr("consumer.repair.mend", mend_slowly)
    repair = Repair(bench.engine, load_plans(plans_file), GRACE)
    repair.mend(repair.examine_one("cus_1"), lambda: datetime.now(UTC))
    batch.join()
    assert bench.query("SELECT jsonb_array_length(facts) - 1 FROM subscriptions") == [(2,)]
    assert repair.examine_one("cus_1").is_sound


def test_a_longer_grace_moves_its_end(
    bench: Bench, recompute: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of now decide what is right now."""
    bench.apply(OWN)
    monkeypatch.setenv("HOOKLINE_GRACE_HOURS", "48")
    result = recompute()
    assert result.exit_code == 3
    assert "2023-11-16T22:13:20Z -> 2023-11-17T22:13:20Z" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--customer", "evil"], "'evil' is no customer's id"),
        (["--customer", "cus_9"], "cus_9 has never been seen"),
    ],
)
def test_a_typing_error_is_a_sentence(
    recompute: Callable[..., Result], arguments: list[str], sentence: str
) -> None:
    """An id that is none, or that nobody has, is not "no difference"."""
    result = recompute(*arguments)
    assert isinstance(result.exception, UsageError)
    assert sentence in str(result.exception)


def test_many_pages_are_gone_through(
    bench: Bench, plans_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every customer is looked at once, however many fit into one snapshot."""
    monkeypatch.setattr("consumer.repair.CUSTOMERS_AT_ONCE", 7)
    documents = [created("active", 0, id=f"sub_{n}", customer=f"cus_{n}") for n in range(30)]
    bench.apply(documents)
    change(bench, "DELETE FROM customers WHERE customer_id = 'cus_3'")
    change(bench, "DELETE FROM webhook_events WHERE customer_id = 'cus_4'")
    repair = Repair(bench.engine, load_plans(plans_file), GRACE)
    seen = [one.customer_id for one in repair.examine_all()]
    assert sorted(seen) == sorted(f"cus_{n}" for n in range(30))
