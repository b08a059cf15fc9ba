"""Objects of Stripe's lists as facts, held against the mode that this deployment serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from consumer.fetched import FAILURE, PREFIX, Fetched, read_failure, read_fetched
from ops.stripe_api.client import Listing, Params, StripeError
from ops.stripe_api.failures import Failures
from schemas.stripe_event import BadEvent, Json, customer_id_of


class Phase(StrEnum):
    """What is read of everybody, in this order: customers before what belongs to them."""

    CUSTOMERS = "customers"
    SUBSCRIPTIONS = "subscriptions"
    CHECKOUTS = "checkouts"


LISTS: Mapping[Phase, tuple[Listing, Params]] = {
    Phase.CUSTOMERS: (Listing.CUSTOMERS, {}),
    Phase.SUBSCRIPTIONS: (
        Listing.SUBSCRIPTIONS,
        # All: canceled ones are left out otherwise, and would look as if never seen.
        {"status": "all", "expand[]": "data.latest_invoice"},
    ),
    # For the application's own id of a customer, which stands nowhere else.
    Phase.CHECKOUTS: (Listing.CHECKOUTS, {"status": "complete"}),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What is merged in one transaction; `after` is where a list goes on behind it."""

    name: str
    fetched: list[Fetched] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    after: str | None = None


class Reader:
    """Reads objects, and holds them against the mode that this deployment serves."""

    def __init__(self, livemode: str, failures: Failures) -> None:
        self._livemode = livemode == "live"
        self._failures = failures

    def read(self, name: str, objects: Sequence[Json], at: int, after: str | None = None) -> Part:
        """Read the objects of one page; raises StripeError for one of the other mode."""
        part = Part(name, after=after)
        skipped = 0
        for obj in objects:
            if obj.get("livemode") not in {None, self._livemode}:
                raise StripeError(
                    f"{obj.get('id')} is of the other mode than HOOKLINE_LIVEMODE: "
                    "this deployment serves only one"
                )
            try:
                fetched = self._read(obj, at)
            except BadEvent as error:
                part.unreadable[str(obj.get("id"))] = str(error)
                continue
            if fetched is None:
                skipped += 1
            else:
                part.fetched.append(fetched)
        return Part(name, part.fetched, part.unreadable, skipped, after)

    def _read(self, obj: Json, at: int) -> Fetched | None:
        """Read one object; None for one of a kind, or of nobody, that is not hookline's."""
        kind = obj.get("object")
        if kind == "event":
            return _read_failure_event(obj, at)
        if kind not in {"customer", "subscription", "invoice", "checkout.session"}:
            return None
        if customer_id_of(obj) is None:
            return None
        return read_fetched(obj, at, self._failures.of(obj, at))


def _read_failure_event(document: Json, at: int) -> Fetched | None:
    """Read the one kind of event that tells what no object does: since when a payment fails."""
    found = read_failure(document) if document.get("type") == FAILURE else None
    customer = customer_id_of(document["data"]["object"]) if found is not None else None
    if found is None or customer is None:
        return None
    return Fetched(f"{PREFIX}{at}", at, customer, found[0], frozenset({found[1]}))
