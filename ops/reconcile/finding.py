"""Events of Stripe's list that are not recorded; blocks on Stripe and PostgreSQL."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Engine, text

from consumer.billing.handlers import NoFact, read_event
from consumer.storage.history import allow_long_statements, snapshot
from consumer.storage.statements import find_recorded
from ingest.webhook import why_ignored
from ops.stripe_api.client import Listing, Params, StripeApi
from schemas.stripe_event import BadEvent, Route, decode_event, decode_route

SETTLED_SECONDS = 60
"""Stripe's list is complete only so long behind now; a delivery may take as long."""

_TYPES = text("SELECT DISTINCT type FROM webhook_events WHERE created_at >= :since")


@dataclass(frozen=True, slots=True)
class Missing:
    """An event that is not recorded, as Stripe's list shows it."""

    body: bytes
    route: Route

    @property
    def created(self) -> int:
        """When Stripe made it, in Unix seconds."""
        return self.route.created or 0


@dataclass(slots=True)
class Search:
    """One look through the list, from a second to another; remembers what it has yielded."""

    engine: Engine
    api: StripeApi
    livemode: bool
    since: int
    until: int
    listed: int = 0
    of_other_types: int = 0
    """Not recorded, but of a type that tells nothing and that nobody sends here."""
    _seen: set[str] = field(default_factory=set)

    def pages(self) -> Iterator[list[Missing]]:
        """Yield what is missing, page by page: first what Stripe knows it did not deliver."""
        received = self._received_types()
        window: Params = {"created[gte]": self.since, "created[lte]": self.until}
        for page in self.api.walk(Listing.EVENTS, {**window, "delivery_success": "false"}):
            yield self._missing(page.bodies, received)
        for page in self.api.walk(Listing.EVENTS, window):
            self.listed += len(page.bodies)
            yield self._missing(page.bodies, received)

    def _received_types(self) -> set[str]:
        """Return the types that were received of late: those that the endpoint is set to send."""
        with snapshot(self.engine) as connection:
            allow_long_statements(connection)
            since = datetime.fromtimestamp(self.since, UTC)
            return set(connection.scalars(_TYPES, {"since": since}))

    def _missing(self, bodies: Sequence[bytes], received: set[str]) -> list[Missing]:
        found = [Missing(body, route) for body in bodies if (route := _route_of(body)) is not None]
        fresh = [
            one
            for one in found
            if one.route.id not in self._seen
            and one.route.created is not None
            and why_ignored(one.route, livemode=self.livemode) is None
        ]
        recorded = self._recorded(fresh)
        missing = [one for one in fresh if one.route.id not in recorded]
        self._seen.update(one.route.id for one in missing)
        wanted = [one for one in missing if one.route.type in received or _tells(one.body)]
        self.of_other_types += len(missing) - len(wanted)
        return wanted

    def _recorded(self, some: Sequence[Missing]) -> set[str]:
        created = {one.route.id: datetime.fromtimestamp(one.created, UTC) for one in some}
        with snapshot(self.engine) as connection:
            return set(find_recorded(connection, created))


def _route_of(body: bytes) -> Route | None:
    try:
        return decode_route(body)
    except BadEvent:
        return None


def _tells(body: bytes) -> bool:
    """Tell whether an event says anything of a subscription or a customer's reference."""
    try:
        reading = read_event(decode_event(body))
    except Exception:  # noqa: BLE001 - a consumer sets aside what it cannot read, and says so
        return True
    return reading.why_none is not NoFact.TYPE or reading.reference is not None
