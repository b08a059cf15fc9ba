"""The entitlement port answers as /openapi.json says, whatever is asked."""

from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import Route

from consumer.gatekeeper.api import build_app
from consumer.gatekeeper.cache import ABSENT, Lease, Nothing
from consumer.gatekeeper.openapi import DOCUMENT, DOCUMENT_PATH
from consumer.gatekeeper.primary import Fresh, Unreadable
from consumer.gatekeeper.reader import Reader
from schemas.entitlement import Entitlement
from schemas.metrics import GatekeeperMetrics
from support.proving import examples
from support.turnwise import PLANS

MOMENT = datetime(2026, 11, 24, 10, tzinfo=UTC)


class AnyCustomer:
    """A cache and a primary in which every name is somebody, and one in five cannot be read."""

    async def get(self, customer: str) -> Entitlement | Nothing:
        """Have every other customer cached."""
        return ABSENT if crc32(customer.encode()) % 2 else _answer(customer)

    async def take_lease(self, _customer: str) -> Lease | None:
        """Let nobody store anything."""
        return None

    async def fill(self, lease: Lease, answer: Entitlement, seconds: float) -> None:
        """Store nothing."""

    async def by_customer(self, customer: str) -> Fresh:
        """Read a customer."""
        return Fresh(_readable(customer), MOMENT, None, 0.0)

    async def by_reference(self, reference: str) -> Entitlement | None:
        """Read the customer of a reference."""
        return _readable(reference) if crc32(reference.encode()) % 3 else None


def _readable(name: str) -> Entitlement:
    if crc32(name.encode()) % 5 == 0:
        raise Unreadable("PostgreSQL does not answer in time")
    return _answer(name)


def _answer(name: str) -> Entitlement:
    end = MOMENT if crc32(name.encode()) % 7 else None
    return Entitlement(name, "pro", True, "past_due", end, end, 17)  # noqa: FBT003


def app_with(*tokens: str) -> object:
    """Return the app, without any server."""
    customers = AnyCustomer()
    reader = Reader(customers, customers, PLANS, now=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    return build_app(reader, tokens, GatekeeperMetrics(CollectorRegistry()))


APPS = {"open": app_with(), "guarded": app_with("secret")}
OPEN = schemathesis.openapi.from_asgi(DOCUMENT_PATH, APPS["open"])
GUARDED = schemathesis.openapi.from_asgi(DOCUMENT_PATH, APPS["guarded"])

HOLD = settings(
    max_examples=examples(2_000, 30),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


NOT_MEANT: list[Any] = [not_a_server_error, positive_data_acceptance]
"""A 503 is described, and a reference that cannot be printed is refused: no schema says so."""


@OPEN.parametrize()
@HOLD
def test_every_answer_is_described(case: schemathesis.Case[Any]) -> None:
    """Status, headers and body of each answer stand in the document; nothing is a 500."""
    case.call_and_validate(excluded_checks=NOT_MEANT)


@GUARDED.parametrize()
@HOLD
def test_every_refusal_is_described(case: schemathesis.Case[Any]) -> None:
    """Without a token each question is answered 401, as the document says."""
    case.headers["authorization"] = "Bearer wrong"
    response = case.call_and_validate(excluded_checks=NOT_MEANT)
    assert response.status_code in {401, 405}


def test_routes_and_document_belong_together() -> None:
    """Each route stands in the document, and nothing else does."""
    routes = getattr(APPS["open"], "routes", [])
    served = {route.path.replace(":text", "") for route in routes if isinstance(route, Route)}
    assert served - {DOCUMENT_PATH} == set(DOCUMENT["paths"])


@pytest.mark.parametrize("field", ["customer", "tier", "grace_until", "source"])
def test_the_document_has_the_fields_of_the_answer(field: str) -> None:
    """What an answer holds is what the document says it holds, no more and no less."""
    described = DOCUMENT["components"]["schemas"]["Entitlement"]["properties"]
    assert list(described) == list(_answer("cus_1").to_document())
    assert described[field]
