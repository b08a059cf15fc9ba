"""Backfill on real storage, against Stripe's twin: everybody is known, and nothing twice."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.settings import BackfillSettings, SettingsError, load
from support.bench import Bench
from support.company import (
    JOIN,
    Run,
    command,
    company,
    stored,
)
from support.stripe_twin import KEY, StripeTwin

KNOWN = list(company(24, "backfill"))


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


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """The figures of a dry run are those of the run after it."""
    twin.live(KNOWN, JOIN)
    before = stored(bench)
    dry = hookline("backfill", "--api", "--dry-run")
    assert dry.exit_code == 0
    assert "nothing was written" in dry.output
    assert stored(bench) == before
    assert bench.query("SELECT count(*) FROM stripe_tasks") == [(0,)]
    wet = hookline("backfill", "--api")
    assert dry.output.replace("would be ", "").splitlines()[:2] == wet.output.splitlines()


def test_an_export_gives_the_same_rows_as_the_api(
    bench: Bench, hookline: Run, twin: StripeTwin, tmp_path: Path
) -> None:
    """A list in one document, and objects a line: read as the API's pages are."""
    twin.live(KNOWN, JOIN)
    lists = tmp_path / "lists.json"
    page = {"object": "list", "data": [*twin.listed("customer"), *twin.listed("subscription")]}
    lists.write_text(json.dumps(page, indent=2))
    failures = [e.document for e in twin.events if e.type == "invoice.payment_failed"]
    lines = tmp_path / "lines.jsonl"
    objects = [*twin.listed("checkout.session"), *failures, {"object": "balance"}]
    lines.write_text("\n".join(map(json.dumps, objects)))
    taken = datetime.fromtimestamp(JOIN - 1, UTC).isoformat()
    result = hookline("backfill", str(lists), str(lines), "--taken", taken)
    assert result.exit_code == 0, result.output
    assert "of other kinds, or of no customer, left alone" in result.output
    from_files = _rows(bench)
    assert hookline("backfill", "--api").exit_code == 0
    assert _rows(bench) == from_files


def test_one_entry_of_its_own_name_tells_of_it(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """The trail says `backfilled` once a subscription, stamped as the fetch; no event is."""
    twin.live(KNOWN, JOIN)
    hookline("backfill", "--api")
    entries = bench.query(
        "SELECT count(*), count(DISTINCT subscription_id), min(event_id), max(event_id) "
        "FROM billing_audit WHERE action = 'backfilled'"
    )
    subscriptions = len(twin.objects["subscription"])
    stamp = f"fetch_{JOIN - 1}"
    assert entries == [(subscriptions, subscriptions, stamp, stamp)]
    assert bench.query("SELECT count(*) FROM webhook_events") == [(0,)]
    assert bench.query("SELECT DISTINCT action FROM billing_audit ORDER BY 1") == [
        ("backfilled",),
        ("reference_linked",),
    ]


def test_nothing_but_lists_is_ever_asked_of_stripe(hookline: Run, twin: StripeTwin) -> None:
    """A backfill reads three lists and the failures, and never writes."""
    twin.live(KNOWN, JOIN)
    hookline("backfill", "--api", "--since", "2024-01-01")
    assert {(method, path) for method, path, _ in twin.requests} <= {
        ("GET", "/v1/customers"),
        ("GET", "/v1/subscriptions"),
        ("GET", "/v1/checkout/sessions"),
        ("GET", "/v1/events"),
    }
    first = {path: params for _, path, params in reversed(twin.requests)}
    assert first["/v1/subscriptions"] == {
        "limit": "100",
        "status": "all",
        "expand[]": "data.latest_invoice",
        "created[gte]": "1704067200",
    }


def test_a_second_one_at_a_time_is_refused(bench: Bench, hookline: Run, twin: StripeTwin) -> None:
    """Two at once would overwrite each other's place: the second is told so."""
    twin.live(KNOWN, JOIN)
    refused = []
    twin.on_request = lambda number: (
        refused.append(hookline("backfill", "--api")) if number == 0 else None
    )
    assert hookline("backfill", "--api").exit_code == 0
    assert "another backfill runs" in str(refused[0].exception)
    assert bench.query("SELECT cursor, completed_at IS NOT NULL FROM stripe_tasks") == [({}, True)]


def test_an_object_that_cannot_be_stored_is_left_out_and_named(
    bench: Bench, hookline: Run, twin: StripeTwin
) -> None:
    """One bad object stops nobody: the others are merged, and the exit code is 3."""
    twin.live(KNOWN, JOIN)
    name, body = next(iter(twin.objects["subscription"].items()))
    bad = json.loads(body) | {"status": "active\0"}
    twin.objects["subscription"][name] = json.dumps(bad).encode()
    result = hookline("backfill", "--api")
    assert result.exit_code == 3
    assert f"{name} was left out" in result.output
    others = len(twin.objects["subscription"]) - 1
    assert bench.query("SELECT count(*) FROM subscriptions") == [(others,)]


MISTAKES: dict[str, tuple[tuple[str, ...], dict[str, str | None], str]] = {
    "neither": ((), {}, "say where to read"),
    "both": (("--api", "FILE"), {}, "say where to read"),
    "no moment": (("FILE",), {}, "--taken is missing"),
    "no time": (("FILE", "--taken", "noon"), {}, "--taken noon: say a time like"),
    "no JSON": (("FILE", "--taken", "2024-01-01"), {}, "is no export"),
    "no key": (("--api",), {"STRIPE_API_KEY": None}, "HOOKLINE_STRIPE_API_KEY is not set"),
    "wrong key": (("--api",), {"STRIPE_API_KEY": "rk_test_x"}, "Stripe refuses the key"),
    "other mode": (("--api",), {"LIVEMODE": "live", "STRIPE_API_KEY": KEY[:3] + "x"}, "refuses"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(
    name: str,
    hookline: Run,
    twin: StripeTwin,
    tmp_path: Path,
) -> None:
    """What a person can put right is said with the option or setting to look at."""
    arguments, variables, sentence = MISTAKES[name]
    file = tmp_path / "export.json"
    file.write_text("no JSON")
    twin.live(KNOWN[:1], JOIN)
    given = [str(file) if argument == "FILE" else argument for argument in arguments]
    result = hookline("backfill", *given, **variables)
    assert sentence in str(result.exception)
    assert KEY not in str(result.exception)


def test_a_permission_that_lacks_is_named(hookline: Run, twin: StripeTwin) -> None:
    """A restricted key that may not read all says what to allow, and quotes nothing of itself."""
    twin.forbidden = {"/v1/subscriptions"}
    result = hookline("backfill", "--api")
    assert "read Subscriptions and Invoices" in str(result.exception)
    assert KEY not in str(result.exception)


def test_objects_of_the_other_mode_are_refused(hookline: Run, twin: StripeTwin) -> None:
    """A test deployment takes no live objects, whatever the key looks like."""
    twin.live(KNOWN[:1], JOIN)
    for name, body in twin.objects["customer"].items():
        twin.objects["customer"][name] = json.dumps(json.loads(body) | {"livemode": True}).encode()
    assert "is of the other mode" in str(hookline("backfill", "--api").exception)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"STRIPE_API_BASE": "http://stripe.example.com"}, "must start with https://"),
        ({"STRIPE_API_BASE": "stripe.example.com"}, "must start with https://"),
        ({"STRIPE_API_KEY": "rk_live_1"}, "is of the other mode than HOOKLINE_LIVEMODE=test"),
    ],
)
def test_a_setting_that_would_do_harm_is_refused(
    hookline: Run, variables: dict[str, str], sentence: str
) -> None:
    """A key never travels in plain, and never meets a deployment of the other mode."""
    assert hookline is not None
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(f"HOOKLINE_{name}", value)
        with pytest.raises(SettingsError, match=sentence):
            load(BackfillSettings)


def _rows(bench: Bench) -> list[object]:
    return [
        bench.query("SELECT customer_id, reference, reference_event_id FROM customers ORDER BY 1"),
        bench.query(
            "SELECT subscription_id, customer_id, status, tier, prices, cancel_at_period_end, "
            "cancel_at, current_period_end, latest_invoice, grace_until, ambiguous, facts "
            "FROM subscriptions ORDER BY 1"
        ),
    ]
