"""The gatekeeper's answers from real rows, and that the SQL view agrees with each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumer.gatekeeper.api import build_app
from consumer.gatekeeper.client import AsyncGatekeeper
from consumer.storage.engine import make_engine as make_writer
from consumer.storage.tiers import write_tiers
from schemas.metrics import GatekeeperMetrics
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings, GatekeeperSettings
from support.pipeline import PLANS_TEXT

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)

INSERT = """
INSERT INTO subscriptions (subscription_id, customer_id, status, tier, prices,
  cancel_at_period_end, current_period_end, grace_until, ambiguous, facts, version)
VALUES (%s, %s, %s, %s, '{}', false, %s, %s, false, '[1]', 1)
"""


class Keeper:
    """A gatekeeper's app on a database of the test's own."""

    def __init__(self, url: str, plans_file: Path) -> None:
        self.url = url
        self.plans = load_plans(plans_file)
        self.settings = GatekeeperSettings(
            database_url=SecretStr(url),
            redis_url=SecretStr("redis://127.0.0.1:1"),
            plans_file=plans_file,
        )
        engine = make_writer(DatabaseSettings(database_url=SecretStr(url)), "test")
        with engine.begin() as connection:
            write_tiers(connection, self.plans)

    def add(self, customer: str, *subscriptions: tuple[Any, ...], reference: str = "") -> None:
        """Store a customer with (id, status, tier, period end, grace until) each."""
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "INSERT INTO customers (customer_id, reference, version) VALUES (%s, %s, 7)",
                [customer, reference or None],
            )
            for name, *rest in subscriptions:
                connection.execute(INSERT, [name, customer, *rest])

    def get(self, *paths: str, tokens: tuple[str, ...] = (), **headers: bytes) -> list[Any]:
        """Ask for paths, side by side."""
        shown = [(name.encode(), value) for name, value in headers.items()]

        async def run() -> list[Any]:
            async with self.client(tokens) as client:
                return await asyncio.gather(*(client.get(p, headers=shown) for p in paths))

        return asyncio.run(run())

    @asynccontextmanager
    async def client(self, tokens: tuple[str, ...] = ()) -> AsyncIterator[httpx.AsyncClient]:
        """Provide a client of the app, whose pool lives as long."""
        async with AsyncGatekeeper(self.settings) as gatekeeper:
            app = build_app(gatekeeper.reader, tokens, GatekeeperMetrics(CollectorRegistry()))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://keeper") as client:
                yield client


@pytest.fixture
def keeper(database_url: str, tmp_path: Path) -> Keeper:
    """Provide a gatekeeper."""
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS_TEXT)
    return Keeper(database_url, plans)


def path_of(customer: str) -> str:
    """Return a customer's path."""
    return f"/v1/customers/{customer}/entitlement"


LATER, SOON, PAST = NOW + 50 * HOUR, NOW + HOUR, NOW - HOUR

CASES: dict[str, tuple[list[tuple[Any, ...]], tuple[str, bool, str | None]]] = {
    "active": ([("sub_1", "active", "pro", LATER, None)], ("pro", True, "active")),
    "trialing": ([("sub_1", "trialing", "pro", None, None)], ("pro", True, "trialing")),
    "in grace": ([("sub_1", "past_due", "pro", LATER, SOON)], ("pro", True, "past_due")),
    "grace over": ([("sub_1", "past_due", "pro", LATER, PAST)], ("starter", False, "past_due")),
    "grace ends now": ([("sub_1", "past_due", "pro", LATER, NOW)], ("starter", False, "past_due")),
    "no grace": ([("sub_1", "past_due", "pro", LATER, None)], ("starter", False, "past_due")),
    "unpaid": ([("sub_1", "unpaid", "pro", LATER, None)], ("starter", False, "unpaid")),
    "unknown": ([("sub_1", "someday", "pro", LATER, None)], ("starter", False, "someday")),
    "ended": ([("sub_1", "canceled", "pro", LATER, None)], ("starter", False, "canceled")),
    "none": ([], ("starter", False, None)),
    "highest entitled": (
        [
            ("sub_1", "active", "pro", LATER, None),
            ("sub_2", "canceled", "enterprise", LATER, None),
            ("sub_3", "active", "starter", LATER, None),
        ],
        ("pro", True, "active"),
    ),
    "not ended before ended": (
        [
            ("sub_1", "canceled", "enterprise", LATER, None),
            ("sub_2", "unpaid", "starter", PAST, None),
        ],
        ("starter", False, "unpaid"),
    ),
    "later period": (
        [("sub_1", "active", "pro", LATER, None), ("sub_2", "trialing", "pro", SOON, None)],
        ("pro", True, "active"),
    ),
    "a known period before none": (
        [("sub_1", "active", "pro", SOON, None), ("sub_2", "trialing", "pro", None, None)],
        ("pro", True, "active"),
    ),
    "greatest id": (
        [("sub_a", "active", "pro", SOON, None), ("sub_B", "trialing", "pro", SOON, None)],
        ("pro", True, "active"),
    ),
    "a tier that the plans no longer have": (
        [("sub_1", "active", "gold", SOON, None), ("sub_2", "active", "starter", SOON, None)],
        ("starter", True, "active"),
    ),
}


@pytest.mark.parametrize(("rows", "expected"), CASES.values(), ids=CASES.keys())
def test_answers_and_the_view_agree(
    keeper: Keeper, rows: list[tuple[Any, ...]], expected: tuple[str, bool, str | None]
) -> None:
    """HTTP and SQL users get the same tier, entitlement and status."""
    keeper.add("cus_1", *rows)
    (answer,) = keeper.get(path_of("cus_1"))
    found = answer.json()
    assert (found["tier"], found["entitled"], found["status"]) == expected
    assert (found["version"], found["source"]) == (7, "database")
    with psycopg.connect(keeper.url) as connection:
        view = connection.execute("SELECT tier, entitled, status FROM customer_entitlements")
        assert view.fetchone() == expected


def test_times_tell_until_when_the_answer_holds(keeper: Keeper) -> None:
    """The next end of a grace period is the only moment that changes an answer by itself."""
    keeper.add(
        "cus_1",
        ("sub_1", "past_due", "enterprise", LATER, SOON),
        ("sub_2", "past_due", "pro", LATER, SOON + HOUR),
    )
    (answer,) = keeper.get(path_of("cus_1"))
    soon = SOON.isoformat().replace("+00:00", "Z")
    assert answer.json()["grace_until"] == answer.json()["valid_until"] == soon
    assert answer.headers["cache-control"] == "no-store"


def test_a_customer_never_seen(keeper: Keeper) -> None:
    """An unknown customer has the default tier, and is no error."""
    (answer,) = keeper.get(path_of("cus_new"))
    assert answer.status_code == 200
    assert answer.json() == {
        "customer": "cus_new",
        "tier": "starter",
        "entitled": False,
        "status": None,
        "grace_until": None,
        "valid_until": None,
        "version": 0,
        "source": "database",
    }


def test_the_best_customer_of_a_reference_answers(keeper: Keeper) -> None:
    """Several customers on one reference: the highest entitled tier; none: the default."""
    keeper.add("cus_1", ("sub_1", "canceled", "enterprise", LATER, None), reference="org/7 ü")
    keeper.add("cus_2", ("sub_2", "active", "pro", LATER, None), reference="org/7 ü")
    keeper.add("cus_3", ("sub_3", "active", "starter", LATER, None), reference="org/7 ü")
    found, unknown = keeper.get(
        "/v1/references/org%2F7%20%C3%BC/entitlement", "/v1/references/other/entitlement"
    )
    assert (found.json()["customer"], found.json()["tier"]) == ("cus_2", "pro")
    assert unknown.status_code == 200
    assert (unknown.json()["customer"], unknown.json()["tier"]) == (None, "starter")


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (path_of("sub_1"), 400, "invalid_customer"),
        (path_of("cus_"), 400, "invalid_customer"),
        (path_of("cus_a-b"), 400, "invalid_customer"),
        (path_of("cus_%00"), 400, "invalid_customer"),
        (path_of("cus_" + "a" * 300), 400, "invalid_customer"),
        (path_of("cus_%D9%A1"), 400, "invalid_customer"),
        ("/v1/references/%00/entitlement", 400, "invalid_reference"),
        ("/v1/references/a%0Ab/entitlement", 400, "invalid_reference"),
        ("/v1/references/" + "a" * 501 + "/entitlement", 400, "invalid_reference"),
        ("/v1/customers/cus_1", 404, "not_found"),
        ("/", 404, "not_found"),
    ],
)
def test_malformed_requests(keeper: Keeper, path: str, status: int, error: str) -> None:
    """What is no question of ours gets one code, and never a 5xx."""
    (answer,) = keeper.get(path)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer new", 200),
        ("bearer old", 200),
        ("Bearer wrong", 401),
        ("Bearer ", 401),
        ("Basic new", 401),
        ("", 401),
        ("Bearer ünicode", 401),
    ],
)
def test_bearer_tokens(keeper: Keeper, header: str, status: int) -> None:
    """Either token of a roll lets in, nothing else does."""
    shown = header.encode("latin-1")
    (answer,) = keeper.get(path_of("cus_1"), tokens=("new", "old"), authorization=shown)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == httpx.codes.UNAUTHORIZED)


def test_postgresql_away_is_503(keeper: Keeper) -> None:
    """Without an answer from the primary there is none from us."""
    keeper.settings = keeper.settings.model_copy(
        update={"database_url": SecretStr("postgresql://u:p@127.0.0.1:1/db")}
    )
    (answer,) = keeper.get(path_of("cus_1"))
    assert (answer.status_code, answer.json()) == (503, {"error": "unavailable"})
    assert answer.headers["retry-after"].isdigit()


def test_more_callers_than_connections_are_all_answered(keeper: Keeper) -> None:
    """Reads beyond the pool wait their turn."""
    keeper.add("cus_1", ("sub_1", "active", "pro", LATER, None))
    answers = keeper.get(*[path_of("cus_1")] * 100)
    assert {answer.status_code for answer in answers} == {200}


def test_connections_from_before_a_restart_cost_nobody_an_answer(keeper: Keeper) -> None:
    """A restarted PostgreSQL leaves dead connections in the pool: they are replaced unseen."""
    keeper.add("cus_1", ("sub_1", "active", "pro", None, None))
    paths = [path_of("cus_1")] * 16

    async def run() -> list[int]:
        async with keeper.client() as client:
            before = await asyncio.gather(*map(client.get, paths))
            with psycopg.connect(keeper.url, autocommit=True) as connection:
                ended = connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                    "application_name = 'hookline-gatekeeper' AND datname = current_database()"
                ).fetchone()
            assert ended is not None
            assert ended[0] > 1
            after = await asyncio.gather(*map(client.get, paths))
            return [answer.status_code for answer in (*before, *after)]

    assert set(asyncio.run(run())) == {200}
