"""Where Stripe sends to: what `hookline doctor` says of the endpoints of an account."""

import pytest

from ops.doctor.endpoints import NEEDED, Endpoint, judge_endpoints, read_endpoint
from ops.doctor.line import State

URL = "https://pay.example.com/webhooks/stripe"
ALL = frozenset({"*"})


def endpoint(url: str = URL, types: frozenset[str] = NEEDED, *, enabled: bool = True) -> Endpoint:
    """Return an endpoint that is as it must be, but for what is given."""
    return Endpoint(url, enabled, types, "2026-10-01")


OTHER = endpoint("https://shop.example.com/hooks")
CASES = {
    "no endpoint at all": ([], None, "it sends to: nowhere", "mend the URL"),
    "another path": ([OTHER], None, "sends to: shop.example.com/hooks", "mend the URL"),
    "another host": ([endpoint()], "https://x.example.com/hooks", URL[8:], "mend the URL"),
    "disabled": ([endpoint(enabled=False)], None, "is disabled", "enable it"),
    "two of them": ([endpoint(), endpoint("https://b/webhooks/stripe")], None, "2 end", "delete"),
    "an event is missing": (
        [endpoint(types=NEEDED - {"invoice.paid"})], None, "not sent invoice.paid", "select",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("endpoints", "url", "says", "mend"), CASES.values(), ids=CASES)
def test_a_wrong_endpoint_is_named_with_what_mends_it(
    endpoints: list[Endpoint], url: str | None, says: str, mend: str
) -> None:
    """Red, with where Stripe sends to instead, and what to do in its dashboard."""
    (line,) = judge_endpoints(endpoints, url)
    assert line.state == State.WRONG
    assert says in line.says
    assert mend in str(line.mend)


@pytest.mark.parametrize(
    ("endpoints", "url"),
    [
        ([endpoint()], None),
        ([endpoint(types=ALL)], None),
        ([endpoint(), OTHER, endpoint("https://b/webhooks/stripe", enabled=False)], None),
        ([endpoint(), endpoint("https://b/webhooks/stripe")], URL + "/"),
    ],
)
def test_one_endpoint_that_sends_what_is_needed_is_green(
    endpoints: list[Endpoint], url: str | None
) -> None:
    """Other endpoints of the account are none of our business; the URL settles which is ours."""
    (line,) = judge_endpoints(endpoints, url)
    assert line.state == State.OK
    assert "pay.example.com/webhooks/stripe, events of API version 2026-10-01" in line.says


def test_an_odd_answer_is_read_without_an_error() -> None:
    """What Stripe may leave out or change is read as not there."""
    assert read_endpoint({"enabled_events": None}) == Endpoint("", False, frozenset(), None)  # noqa: FBT003 - a record


def test_a_password_in_a_url_is_not_shown() -> None:
    """Stripe allows user and password in an endpoint's URL; a person's terminal needs neither."""
    (line,) = judge_endpoints([endpoint("https://me:pw@a.example.com/x")], None)
    assert "pw" not in str(line)
