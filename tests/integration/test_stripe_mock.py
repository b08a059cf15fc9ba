"""What is asked of Stripe, held against Stripe's own specification by its own mock."""

import subprocess
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from ops.embedded.ports import free_ports
from ops.stripe_api.client import Listing, Params, StripeApi
from ops.stripe_api.reading import LISTS, Phase
from support.polling import eventually
from support.programs import find_program


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Run stripe-mock on a free loopback port."""
    port = free_ports(1)[0]
    program = str(find_program("stripe-mock"))
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(  # noqa: S603 - found by its name
        [program, "-http-addr", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        try:
            httpx.get(f"http://{address}/")
        except httpx.TransportError:
            return False
        return True

    try:
        eventually(answers, 30, "stripe-mock")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def api(base: str) -> Iterator[StripeApi]:
    """Provide a client of the mock, which gives up at once."""
    client = StripeApi("sk_test_123", base, patience=0)
    yield client
    client.close()


WINDOW: Params = {"created[gte]": 1_700_000_000, "created[lte]": 1_700_000_060}
REQUESTS: list[tuple[Listing, Params]] = [
    *LISTS.values(),
    *((listing, {**params, "created[gte]": 1_700_000_000}) for listing, params in LISTS.values()),
    (Listing.EVENTS, {**WINDOW, "delivery_success": "false"}),
    (Listing.EVENTS, WINDOW),
    (Listing.EVENTS, {"type": "invoice.payment_failed", "created[gte]": 1_700_000_000}),
    (Listing.EVENTS, {"limit": 1}),
    (Listing.WEBHOOK_ENDPOINTS, {}),
]


@pytest.mark.parametrize(("listing", "params"), REQUESTS)
@pytest.mark.parametrize("after", [None, "x_123"])
def test_every_list_is_asked_for_as_stripe_has_it(
    api: StripeApi, listing: Listing, params: Params, after: str | None
) -> None:
    """Paths, filters and paging are Stripe's: its mock refuses a parameter it does not know."""
    page = api.list(listing, {**params, **({"starting_after": after} if after else {})})
    assert page.at > 1_700_000_000
    assert all(obj["id"] for obj in page.objects)


def test_a_subscription_comes_with_its_latest_invoice(api: StripeApi) -> None:
    """An expanded invoice is an object, in the list and alone."""
    found = api.find_subscription("sub_123", {"expand[]": "latest_invoice"})
    assert found is not None
    assert found[0]["latest_invoice"]["object"] == "invoice"
    listing, params = LISTS[Phase.SUBSCRIPTIONS]
    (listed,) = api.list(listing, params).objects
    assert listed["latest_invoice"]["object"] == "invoice"


def test_the_mock_refuses_what_stripe_does_not_know(base: str) -> None:
    """The check above can fail: a parameter of ours that Stripe lacks is answered 400."""
    answer = httpx.get(
        f"{base}{Listing.EVENTS}?made_up=1", headers={"authorization": "Bearer sk_test_123"}
    )
    assert answer.status_code == 400
