"""Verify on real storage, against Stripe's twin: each kind of drift is found, told and mended."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from ops.simulator.life import Event
from support.bench import Bench
from support.company import JOIN, Run, command, company
from support.pipeline import PLANS_TEXT
from support.stripe import DAY, MONTH, T0, Json, body, event, invoice, subscription
from support.stripe_twin import StripeTwin

NOW = 20 * DAY
"""When Stripe is asked, in seconds after T0."""


@pytest.fixture
def twin() -> StripeTwin:
    """Provide an account of which nothing has been told."""
    return StripeTwin(now=T0 + NOW)


@pytest.fixture
def plans_file(tmp_path: Path) -> Path:
    """Provide the file that the bench reads its plans from."""
    return tmp_path / "plans.toml"


@pytest.fixture
def hookline(bench: Bench, redis_url: str, plans_file: Path, twin: StripeTwin) -> Iterator[Run]:
    """Provide the command, with the settings of the bench and the twin's address."""
    with command(bench, redis_url, plans_file, twin) as run:
        yield run


@dataclass
class Drift:
    """One subscription whose events reach Stripe's state, and hookline's only as told."""

    name: str
    bench: Bench
    twin: StripeTwin

    @property
    def id(self) -> str:
        """Its id."""
        return f"sub_{self.name}"

    def happens(
        self,
        at: int,
        status: str = "active",
        *,
        previous: Json | None = None,
        lost: bool = False,
        name: str = "",
        kind: str = "updated",
        **fields: object,
    ) -> None:
        """Let the subscription change at Stripe, and tell hookline unless the event is lost."""
        customer = f"cus_{self.name.replace('_', '')}"
        obj = subscription(status, id=self.id, customer=customer, **fields)  # type: ignore[arg-type]
        document = event(
            f"customer.subscription.{kind}", obj, at, previous=previous, id=name or None
        )
        self.tell(document, lost=lost)

    def bills(self, at: int, kind: str, status: str, *, lost: bool = False) -> None:
        """Let its invoice be paid, or fail."""
        obj = invoice(
            status,
            id=f"in_{self.name}",
            subscription=self.id,
            customer=f"cus_{self.name.replace('_', '')}",
        )
        self.tell(event(f"invoice.{kind}", obj | {"attempted": True}, at), lost=lost)

    def tell(self, document: Json, *, lost: bool) -> None:
        """Tell Stripe's twin of an event, and hookline."""
        self.twin.tell(Event(document["id"], document["type"], document["created"], body(document)))
        if not lost:
            self.bench.apply([document], self.bench.standing())

    def change(self, statement: str) -> None:
        """Change the row behind everybody's back."""
        with self.bench.engine.begin() as connection:
            connection.execute(text(statement), {"id": self.id})


def lost_end(drift: Drift) -> None:
    """Lose the event that ends it: access stays."""
    drift.happens(0, kind="created")
    drift.happens(DAY, "canceled", kind="deleted", lost=True)


def never_seen(drift: Drift) -> None:
    """Lose all there is."""
    drift.happens(0, kind="created", lost=True)


def lost_plan(drift: Drift) -> None:
    """Lose a change of plan."""
    drift.happens(0, kind="created")
    drift.happens(DAY, prices=("price_ent",), lost=True)


def lost_cancellation(drift: Drift) -> None:
    """Lose that it is to end."""
    drift.happens(0, kind="created")
    drift.happens(DAY, cancel_at_period_end=True, lost=True)


def lost_renewal(drift: Drift) -> None:
    """Lose a new period."""
    drift.happens(0, kind="created")
    drift.happens(DAY, period_end=T0 + 2 * MONTH, lost=True)


def lost_payment(drift: Drift) -> None:
    """Lose that an overdue invoice was paid."""
    drift.happens(0, kind="created", latest_invoice=f"in_{drift.name}")
    drift.bills(DAY, "payment_failed", "open")
    drift.happens(DAY, "past_due", latest_invoice=f"in_{drift.name}")
    drift.bills(2 * DAY, "paid", "paid", lost=True)
    drift.happens(2 * DAY, latest_invoice=f"in_{drift.name}", lost=True)


def lost_failure(drift: Drift) -> None:
    """Lose that a payment failed: there is no grace period."""
    drift.happens(0, kind="created", latest_invoice=f"in_{drift.name}")
    drift.bills(NOW - 60, "payment_failed", "open", lost=True)
    drift.happens(NOW - 60, "past_due", latest_invoice=f"in_{drift.name}")


def set_aside(drift: Drift) -> None:
    """Have PostgreSQL refuse an event."""
    drift.happens(0, kind="created")
    drift.change("ALTER TABLE subscriptions ADD CONSTRAINT refuses CHECK (status <> 'unpaid')")
    drift.happens(DAY, "unpaid")
    drift.change("ALTER TABLE subscriptions DROP CONSTRAINT refuses")


def fact_lost(drift: Drift) -> None:
    """Have an event recorded, and its fact gone."""
    drift.happens(0, kind="created")
    drift.change("CREATE TABLE kept AS SELECT * FROM subscriptions WHERE subscription_id = :id")
    drift.happens(DAY, "paused")
    drift.change("DELETE FROM subscriptions WHERE subscription_id = :id")
    drift.change("INSERT INTO subscriptions SELECT * FROM kept")


def tie(drift: Drift) -> None:
    """Leave a state and come back within a second: nothing tells which was the last."""
    on, off = {"cancel_at_period_end": True}, {"cancel_at_period_end": False}
    drift.happens(0, kind="created")
    drift.happens(DAY, previous=off, name="evt_tie_2", cancel_at_period_end=True)
    drift.happens(DAY, previous=on, name="evt_tie_1")


def row_edited(drift: Drift) -> None:
    """Change a status by hand."""
    drift.happens(0, kind="created")
    drift.change("UPDATE subscriptions SET status = 'trialing' WHERE subscription_id = :id")


def row_deleted(drift: Drift) -> None:
    """Delete a row by hand."""
    drift.happens(0, kind="created")
    drift.change("DELETE FROM subscriptions WHERE subscription_id = :id")


def other_plans_file(drift: Drift) -> None:
    """Have a row of the time when the plans file said otherwise."""
    drift.happens(0, kind="created")
    drift.change("UPDATE subscriptions SET tier = 'enterprise' WHERE subscription_id = :id")


DRIFTS: dict[Callable[[Drift], None], tuple[str, str]] = {
    lost_end: ("event_missing", "status"),
    never_seen: ("event_missing", "row"),
    lost_plan: ("event_missing", "tier"),
    lost_cancellation: ("event_missing", "cancel_at_period_end"),
    lost_renewal: ("event_missing", "current_period_end"),
    lost_payment: ("event_missing", "status"),
    lost_failure: ("event_missing", "grace_until"),
    set_aside: ("event_not_applied", "status"),
    fact_lost: ("event_not_applied", "status"),
    tie: ("tie_decided_wrongly", "cancel_at_period_end"),
    row_edited: ("row_changed", "status"),
    row_deleted: ("row_changed", "row"),
    other_plans_file: ("row_changed", "tier"),
}


def planted(drifts: list[Callable[[Drift], None]], bench: Bench, twin: StripeTwin) -> None:
    """Plant drifts, each in a subscription of its own, beside one that is as it must be."""
    for plant in drifts:
        plant(Drift(plant.__name__, bench, twin))
    Drift("sound", bench, twin).happens(0, kind="created")


def test_every_kind_of_drift_is_found_told_and_mended(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """Each planted drift is found with its kind and field; after --repair nothing differs."""
    planted(list(DRIFTS), bench, twin)
    looked = hookline("verify", "--full", "--json", "--wait", "0")
    assert looked.exit_code == 3, looked.output
    document = json.loads(looked.stdout)
    assert document["compared"] == len(DRIFTS) + 1
    found = {one["subscription"]: one for one in document["differences"]}
    assert {name: one["kind"] for name, one in found.items()} == {
        f"sub_{plant.__name__}": kind for plant, (kind, _) in DRIFTS.items()
    }
    for plant, (_, field) in DRIFTS.items():
        assert field in found[f"sub_{plant.__name__}"]["fields"]
        assert not found[f"sub_{plant.__name__}"]["mended"]

    mended = hookline("verify", "--full", "--repair", "--wait", "0")
    assert mended.exit_code == 0, mended.output
    assert f"mended: {len(DRIFTS)}" in mended.output
    again = hookline("verify", "--full", "--wait", "0")
    assert again.exit_code == 0, again.output
    assert "all as Stripe has them" in again.output
    entries = bench.query(
        "SELECT DISTINCT action FROM billing_audit WHERE event_id LIKE 'fetch\\_%' ORDER BY 1"
    )
    assert ("subscription_ended",) in entries
    assert ("backfilled",) not in entries


def test_a_row_edited_after_a_repair_is_mended_again(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """Stripe says nothing that is not known already: the row is written anew all the same."""
    drift = Drift("again", bench, twin)
    lost_plan(drift)
    assert hookline("verify", "--full", "--repair", "--wait", "0").exit_code == 0
    drift.change("UPDATE subscriptions SET status = 'trialing' WHERE subscription_id = :id")
    mended = hookline("verify", "--full", "--repair", "--wait", "0")
    assert mended.exit_code == 0, mended.output
    assert bench.query("SELECT status FROM subscriptions") == [("active",)]


def test_what_no_merging_can_mend_stays_and_is_told(
    bench: Bench, hookline: Run, twin: StripeTwin, plans_file: Path
) -> None:
    """A price that no plans file knows and a subscription of nobody's stay: exit code 3."""
    Drift("unmapped", bench, twin).happens(0, kind="created", prices=("price_new",))
    Drift("made_up", bench, twin).happens(0, kind="created")
    del twin.objects["subscription"]["sub_made_up"]
    result = hookline("verify", "--full", "--repair", "--json", "--wait", "0")
    assert result.exit_code == 3
    found = {one["subscription"]: one for one in json.loads(result.stdout)["differences"]}
    assert {name: (one["kind"], one["mended"]) for name, one in found.items()} == {
        "sub_unmapped": ("plan_unmapped", False),
        "sub_made_up": ("not_at_stripe", False),
    }
    assert "price_new" in found["sub_unmapped"]["sentence"]

    plans_file.write_text(PLANS_TEXT.replace("[prices]", '[prices]\nprice_new = "pro"'))
    with bench.engine.begin() as connection:
        connection.execute(text("DELETE FROM subscriptions WHERE subscription_id = 'sub_made_up'"))
    assert hookline("recompute", "--customer", "cus_unmapped", "--apply").exit_code == 0
    assert hookline("verify", "--full", "--wait", "0").exit_code == 0


def test_an_event_on_its_way_is_no_difference(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """What differs is looked at again after a while; what has arrived by then is not told."""
    drift = Drift("slow", bench, twin)
    drift.happens(0, kind="created")
    late = event(
        "customer.subscription.deleted",
        subscription("canceled", id=drift.id, customer="cus_slow"),
        NOW - 2,
    )
    drift.tell(late, lost=True)

    def arrive(number: int) -> None:
        if twin.requests[number][1].endswith(drift.id):
            bench.apply([late], bench.standing())

    twin.on_request = arrive
    result = hookline("verify", "--full", "--wait", "0.1")
    assert result.exit_code == 0, result.output


def test_a_sample_looks_at_so_many_and_at_the_newest(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """A sample asks for each drawn one alone, and finds a new one that no event told of."""
    known = company(24, "sample")
    twin.now = JOIN
    twin.live(known, JOIN)
    hookline("backfill", "--api")
    newest = next(reversed(twin.objects["subscription"]))
    with bench.engine.begin() as connection:
        connection.execute(
            text("DELETE FROM subscriptions WHERE subscription_id = :id"), {"id": newest}
        )
    before = len(twin.requests)
    result = hookline("verify", "--sample", "3", "--json", "--wait", "0")
    assert result.exit_code == 3
    assert [one["subscription"] for one in json.loads(result.stdout)["differences"]] == [newest]
    paths = [path for _, path, _ in twin.requests[before:]]
    assert paths.count("/v1/subscriptions") == 1
    assert sum(path.startswith("/v1/subscriptions/") for path in paths) <= 3 + 1


def test_a_sample_of_many_is_of_as_many_as_asked(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """Drawn from a part of a large table, it is full, and another one each time."""
    drift = Drift("one", bench, twin)
    drift.happens(0, kind="created")
    drift.change(
        "INSERT INTO subscriptions SELECT subscription_id || n, customer_id, status, tier, prices,"
        " cancel_at_period_end, cancel_at, current_period_end, latest_invoice, grace_until,"
        " ambiguous, facts, version, updated_at FROM subscriptions, generate_series(1, 9000) n"
    )
    drift.change("ANALYZE subscriptions")
    samples = []
    for _ in range(2):
        result = hookline("verify", "--sample", "7", "--json", "--wait", "0")
        samples.append({one["subscription"] for one in json.loads(result.stdout)["differences"]})
    assert [len(sample - {drift.id}) for sample in samples] == [7, 7]
    assert samples[0] != samples[1]


def test_sample_and_full_exclude_each_other(hookline: Run) -> None:
    """Asked for both, it says so."""
    assert "one of these" in str(hookline("verify", "--sample", "3", "--full").exception)
