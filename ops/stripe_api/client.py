"""Stripe's API, read only: a few lists and one object, at a pace that Stripe takes.

Not the SDK's client: that asks for the API version it was made for, and turns what comes into
objects of its own. Without a version Stripe answers in the account's, as in most of its events;
and an event's bytes are passed on as they came. https://docs.stripe.com/api
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import httpx2 as httpx
import msgspec
import structlog

from schemas.settings import StripeSettings
from schemas.stripe_event import Json

log = structlog.get_logger()

PAGE = 100
"""The most that Stripe gives at a time."""

TIMEOUT_SECONDS = 40.0
RATE = 20.0
"""Requests a second: below the 25 that a sandbox, or one resource in live mode, may be asked."""

SLOWEST_RATE = 0.5
PATIENCE_SECONDS = 300.0
"""So long a request is tried again that Stripe does not answer, or answers 429 or 5xx."""

LONGEST_PAUSE_SECONDS = 30.0
REACH_SECONDS = 30 * 24 * 3600
"""Stripe lists its events for so long."""

SETTLED_SECONDS = 1
"""What was true a second before the server's Date is in the answer for sure."""

Params = Mapping[str, str | int]


class Listing(StrEnum):
    """All lists that are asked for, each with the permission that a restricted key needs."""

    CUSTOMERS = "/v1/customers"
    SUBSCRIPTIONS = "/v1/subscriptions"
    CHECKOUTS = "/v1/checkout/sessions"
    EVENTS = "/v1/events"
    WEBHOOK_ENDPOINTS = "/v1/webhook_endpoints"


PERMISSIONS: Mapping[Listing, str] = {
    Listing.CUSTOMERS: "Customers",
    Listing.SUBSCRIPTIONS: "Subscriptions and Invoices",
    Listing.CHECKOUTS: "Checkout Sessions",
    Listing.EVENTS: "Events",
    Listing.WEBHOOK_ENDPOINTS: "Webhook Endpoints",
}


class StripeError(Exception):
    """Stripe cannot be asked, or does not answer; one sentence that says what to do."""

    def __init__(self, sentence: str, *, is_away: bool = False) -> None:
        self.is_away = is_away
        super().__init__(sentence)


class CursorGoneError(StripeError):
    """The object behind which a list was to go on was deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first; `at` is a second whose truth it surely holds."""

    bodies: tuple[bytes, ...]
    has_more: bool
    at: int

    @property
    def objects(self) -> list[Json]:
        """The objects, decoded."""
        return [json.loads(body) for body in self.bodies]


class _List(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: bool


class Pace:
    """How fast to ask: halved by each 429, and a little faster after each answer."""

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.rate = RATE
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0

    def wait(self) -> None:
        """Wait for the next moment to ask at."""
        now = self._clock()
        if self._next > now:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.rate

    def answered(self) -> None:
        """Note that Stripe took the pace."""
        self.rate = min(RATE, self.rate + RATE / 100)

    def refused(self) -> None:
        """Note that it was too fast."""
        self.rate = max(SLOWEST_RATE, self.rate / 2)


class StripeApi:
    """A client for one caller at a time; every call blocks, and raises StripeError."""

    def __init__(
        self,
        key: str,
        base: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._client = httpx.Client(
            base_url=base,
            headers={"authorization": f"Bearer {key}", "user-agent": "hookline"},
            timeout=TIMEOUT_SECONDS,
        )
        self._clock = clock
        self._sleep = sleep
        self._patience = patience
        self.pace = Pace(clock, sleep)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def list(self, listing: Listing, params: Params) -> Page:
        """Return one page of at most a hundred; `starting_after` names the last one before it."""
        response = self._get(listing, {"limit": PAGE, **params}, PERMISSIONS[listing])
        if response is None:
            raise CursorGoneError(f"Stripe does not know {params.get('starting_after')} any more")
        bodies, has_more = _read_list(response.content)
        return Page(bodies, has_more, _second_of(response))

    def walk(self, listing: Listing, params: Params, after: str | None = None) -> Iterator[Page]:
        """Yield all pages of a list, from behind one object on.

        From the beginning again if that object is gone: what is read twice changes nothing.
        """
        while True:
            begin = {"starting_after": after} if after else {}
            try:
                page = self.list(listing, {**params, **begin})
            except CursorGoneError:
                if after is None:
                    raise
                after = None
                continue
            yield page
            if not page.has_more or not page.bodies:
                return
            after = id_of(page.bodies[-1])

    def now(self) -> int:
        """Return the second that Stripe's clock shows."""
        return self.list(Listing.EVENTS, {"limit": 1}).at + SETTLED_SECONDS

    def find_subscription(self, subscription_id: str, params: Params) -> tuple[Json, int] | None:
        """Return a subscription and a second whose truth it holds; None where there is none."""
        path = f"{Listing.SUBSCRIPTIONS}/{subscription_id}"
        response = self._get(path, params, PERMISSIONS[Listing.SUBSCRIPTIONS])
        if response is None:
            return None
        return json.loads(response.content), _second_of(response)

    def _get(self, path: str, params: Params, permission: str) -> httpx.Response | None:
        """Ask until Stripe answers, for five minutes; None: it knows no such object."""
        deadline = self._clock() + self._patience
        attempt = 0
        while True:
            self.pace.wait()
            response, why = self._try(path, params)
            if response is not None and not _may_pass(response):
                self.pace.answered()
                return _judge(response, path, permission)
            if response is not None and response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                self.pace.refused()
            pause = _pause(response, attempt)
            attempt += 1
            if self._clock() + pause > deadline:
                raise StripeError(
                    f"Stripe's API does not answer ({why}): try again later, or look at "
                    "HOOKLINE_STRIPE_API_BASE",
                    is_away=True,
                )
            log.info("stripe_asked_again", path=path, why=why, seconds=round(pause, 1))
            self._sleep(pause)

    def _try(self, path: str, params: Params) -> tuple[httpx.Response | None, str]:
        try:
            response = self._client.get(path, params=dict(params))
        except httpx.TransportError as error:
            return None, type(error).__name__
        return response, f"HTTP {response.status_code}"


def open_api(settings: StripeSettings) -> StripeApi:
    """Return a client by the settings; raises StripeError without a key."""
    key = settings.stripe_api_key
    if key is None:
        raise StripeError(
            "HOOKLINE_STRIPE_API_KEY is not set: make a restricted key in Stripe's dashboard that "
            f"may read {', '.join(PERMISSIONS.values())}, and nothing else"
        )
    return StripeApi(key.get_secret_value(), settings.stripe_api_base)


def id_of(body: bytes) -> str:
    """Return the id of an object; "" where it has none."""
    found = json.loads(body).get("id")
    return found if isinstance(found, str) else ""


def _read_list(content: bytes) -> tuple[tuple[bytes, ...], bool]:
    try:
        found = msgspec.json.decode(content, type=_List)
    except msgspec.DecodeError:
        return _read_odd_list(content)
    return tuple(bytes(entry) for entry in found.data), found.has_more


def _read_odd_list(content: bytes) -> tuple[tuple[bytes, ...], bool]:
    """Read what msgspec refuses: a lone surrogate in some text, or something that is no list."""
    try:
        document: Any = json.loads(content)
        entries = [json.dumps(entry).encode() for entry in document["data"]]
        return tuple(entries), document["has_more"] is True
    except (ValueError, KeyError, TypeError):
        raise StripeError(
            "HOOKLINE_STRIPE_API_BASE does not answer as Stripe's API does: look whether it names "
            "that, without a path"
        ) from None


def _may_pass(response: httpx.Response) -> bool:
    status = response.status_code
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_TIMEOUT,
    }


def _judge(response: httpx.Response, path: str, permission: str) -> httpx.Response | None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return response
    if status == HTTPStatus.UNAUTHORIZED:
        raise StripeError("Stripe refuses the key: look at HOOKLINE_STRIPE_API_KEY")
    if status == HTTPStatus.FORBIDDEN:
        raise StripeError(
            f"HOOKLINE_STRIPE_API_KEY may not read {path}: give it the permission to read "
            f"{permission} in Stripe's dashboard"
        )
    if _code_of(response) == "resource_missing":
        return None
    raise StripeError(f"Stripe answers {status} to GET {path} ({_code_of(response)})")


def _code_of(response: httpx.Response) -> str:
    """Return the code of an error; its message may quote a part of the key."""
    try:
        error = response.json()["error"]
        return str(error.get("code") or error.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "no error code"


def _pause(response: httpx.Response | None, attempt: int) -> float:
    asked = "" if response is None else response.headers.get("retry-after", "")
    least = float(asked) if asked.isdigit() else 0.0
    wanted = max(least, 0.5 * 2.0 ** min(attempt, 8))
    # Not all at once after an outage.
    return min(wanted, LONGEST_PAUSE_SECONDS) * random.uniform(1.0, 1.3)  # noqa: S311 - jitter


def _second_of(response: httpx.Response) -> int:
    """Return the second whose truth an answer holds, by the server's clock."""
    try:
        date = parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        raise StripeError(
            "Stripe's answer has no Date: whatever stands between must let that header pass"
        ) from None
    return int(date.timestamp()) - SETTLED_SECONDS
