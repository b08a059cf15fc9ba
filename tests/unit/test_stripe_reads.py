"""Stripe is read, never written: the list of all that is asked, and how fast."""

import ast
from pathlib import Path

import pytest

from ops.stripe_api.client import RATE, SLOWEST_RATE, Listing, Pace

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "ingest", "consumer", "ops")
PEERS = ROOT / "ops" / "bench" / "peers"
"""What others do, rebuilt to be measured; nothing of hookline imports it."""

SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if PEERS not in path.parents
]
ASKED = {
    "/v1/customers",
    "/v1/subscriptions",
    "/v1/checkout/sessions",
    "/v1/events",
    "/v1/webhook_endpoints",
}
SIGNATURES = {"SignatureVerificationError", "WebhookSignature"}


def test_these_lists_and_no_others_are_asked_of_stripe() -> None:
    """Five lists, and one subscription by its id: whatever is added must be read only too."""
    assert {listing.value for listing in Listing} == ASKED
    named = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("/v1/")
    }
    named = {name for name in named if not name.startswith(OWN)}
    assert named <= ASKED | SIMULATED


OWN = ("/v1/customers/", "/v1/references/")
"""What the gatekeeper itself answers."""

SIMULATED = {"/v1/subscription_items?subscription=", "/v1/invoices/"}
"""Texts of simulated objects, which nobody asks for."""


def test_the_client_can_only_get() -> None:
    """The one client of Stripe's API calls `get` and nothing else of its HTTP library."""
    tree = ast.parse((ROOT / "ops" / "stripe_api" / "client.py").read_text())
    calls = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "self._client"
    }
    assert calls == {"get", "close"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_stripes_sdk_is_used_for_signatures_alone(path: Path) -> None:
    """Nothing of the SDK that could ask Stripe is imported anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stripe":
            assert {alias.name for alias in node.names} <= SIGNATURES
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "stripe" for alias in node.names)


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        """Return the time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def asked_in(pace: Pace, clock: Clock, seconds: float) -> int:
    """Return how often one may ask in so many seconds."""
    until, asked = clock.now + seconds, 0
    while clock.now < until:
        pace.wait()
        asked += 1
    return asked


def test_the_pace_falls_by_half_and_comes_back_slowly() -> None:
    """Below Stripe's limit at most; each 429 halves it, to a floor; each answer adds a little."""
    clock = Clock()
    pace = Pace(clock.read, clock.wait)
    assert asked_in(pace, clock, 10) <= RATE * 10 + 1
    pace.refused()
    assert pace.rate == RATE / 2
    assert asked_in(pace, clock, 10) <= RATE / 2 * 10 + 2
    for _ in range(20):
        pace.refused()
    assert pace.rate == SLOWEST_RATE
    before = pace.rate
    pace.answered()
    assert before < pace.rate < before + 1
    for _ in range(1000):
        pace.answered()
    assert pace.rate == RATE
