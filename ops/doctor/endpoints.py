"""Where Stripe sends events to, by its own word; only looked at where a key is set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from consumer.storage.stripe_tasks import Task, load, say_backfill, was_backfilled
from ingest.webhook import PATH
from ops.doctor.line import Line, ok, one_of, unknown, wrong
from ops.doctor.site import Site, place_of
from ops.stripe_api.client import Listing
from schemas.stripe_event import Json

NEEDED = frozenset(
    {
        "checkout.session.async_payment_failed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.subscription.updated",
        "invoice.paid",
        "invoice.payment_failed",
    }
)
"""Without one of these some state is never heard of (merge, handlers); more do no harm."""

ABOUT = "endpoint"
DASHBOARD = "in Stripe's dashboard, under Webhooks"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook endpoint of the account."""

    url: str
    enabled: bool
    types: frozenset[str]
    version: str | None


def look_at_endpoints(site: Site) -> Iterator[Line]:
    """Say whether exactly one endpoint at Stripe sends here what hookline needs."""
    if site.stripe is None:
        if site.webhook_url is not None:
            yield unknown(ABOUT, "needs HOOKLINE_STRIPE_API_KEY, to ask Stripe where it sends")
        return
    pages = site.stripe.walk(Listing.WEBHOOK_ENDPOINTS, {})
    endpoints = [read_endpoint(obj) for page in pages for obj in page.objects]
    yield from judge_endpoints(endpoints, site.webhook_url)


def read_endpoint(obj: Json) -> Endpoint:
    """Read what matters of an endpoint as Stripe shows it."""
    types = obj.get("enabled_events")
    return Endpoint(
        str(obj.get("url") or ""),
        obj.get("status") == "enabled",
        frozenset(map(str, types if isinstance(types, list) else [])),
        obj.get("api_version"),
    )


def judge_endpoints(endpoints: Sequence[Endpoint], wanted: str | None) -> list[Line]:
    """Find the endpoint that is ours, by its URL or else by its path, and judge it."""
    ours = [one for one in endpoints if _is_ours(one, wanted)]
    if not ours:
        return [_missing(endpoints, wanted)]
    live = [one for one in ours if one.enabled]
    if not live:
        return [
            wrong(ABOUT, f"{place_of(ours[0].url)} is disabled at Stripe", f"enable it {DASHBOARD}")
        ]
    if len(live) > 1:
        places = ", ".join(sorted(place_of(one.url) for one in live))
        what = f"{len(live)} endpoints send to hookline, and one must: {places}"
        return [
            wrong(ABOUT, what, f"delete the others {DASHBOARD}, or name yours by --webhook-url")
        ]
    return list(_judge_types(live[0]))


def _is_ours(endpoint: Endpoint, wanted: str | None) -> bool:
    if wanted is not None:
        return endpoint.url.rstrip("/") == wanted.rstrip("/")
    return urlsplit(endpoint.url).path == PATH


def _missing(endpoints: Sequence[Endpoint], wanted: str | None) -> Line:
    sends = ", ".join(sorted(place_of(one.url) for one in endpoints)) or "nowhere"
    here = f"to {place_of(wanted)}" if wanted else f"to a URL that ends in {PATH}"
    return wrong(
        ABOUT, f"Stripe does not send {here}; it sends to: {sends}", f"mend the URL {DASHBOARD}"
    )


def _judge_types(endpoint: Endpoint) -> Iterator[Line]:
    missing = NEEDED - endpoint.types if "*" not in endpoint.types else frozenset()
    problems = [
        (
            f"{place_of(endpoint.url)} is not sent {', '.join(sorted(missing))}",
            f"select these events {DASHBOARD}",
        )
    ] * bool(missing)
    version = f" of API version {endpoint.version}" if endpoint.version else ""
    fact = f"Stripe sends what is needed to {place_of(endpoint.url)}, events{version}"
    yield from one_of(ABOUT, problems, fact)


def look_at_backfill(site: Site) -> Iterator[Line]:
    """Say whether subscribers from before hookline were ever read; whether any are is not known."""
    with site.engine.connect() as connection:
        standing = load(connection, Task.BACKFILL)
    says = say_backfill(standing)
    yield ok("backfill", says) if was_backfilled(standing) else unknown("backfill", says)
