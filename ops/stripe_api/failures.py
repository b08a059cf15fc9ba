"""When payments of an invoice first failed: no object of Stripe's says it, its events do."""

from collections.abc import Iterator

from consumer.billing.facts import Invoice
from consumer.fetched import FAILURE, is_overdue, read_failure, read_old_failure
from ops.stripe_api.client import REACH_SECONDS, Listing, Params, StripeApi
from schemas.stripe_event import Json


class Failures:
    """The failures of the last 30 days, listed once and again where one seems to be missing.

    Without an API, as beside an export, only what failed before that is told.
    """

    def __init__(self, api: StripeApi | None) -> None:
        self._api = api
        self._known: dict[str, list[Invoice]] = {}
        self._newest: int | None = None
        self._listed_at = 0

    def of(self, subscription: Json, at: int) -> list[Invoice]:
        """Return what is known of failures of a subscription's latest, unpaid invoice.

        An invoice that failed before Stripe's list begins counts as failed since it was due. One
        that failed within the list's reach and is not in it has only just failed: its event comes.
        """
        invoice = subscription.get("latest_invoice")
        if not isinstance(invoice, dict) or not is_overdue(invoice):
            return []
        name = str(invoice.get("id"))
        if name not in self._known and self._listed_at < at:
            self._list(at)
        if name in self._known:
            return self._known[name]
        old = read_old_failure(invoice, at)
        return [old] if old is not None and old.at < at - REACH_SECONDS else []

    def _list(self, at: int) -> None:
        since = at - REACH_SECONDS if self._newest is None else self._newest
        for document in _walk(self._api, {"type": FAILURE, "created[gte]": since}):
            found = read_failure(document)
            if found is not None:
                self._note(found[1])
        self._listed_at = at

    def _note(self, failure: Invoice) -> None:
        self._newest = max(failure.at, self._newest or 0)
        known = self._known.setdefault(failure.invoice, [])
        if failure not in known:
            known.append(failure)


def _walk(api: StripeApi | None, params: Params) -> Iterator[Json]:
    for page in api.walk(Listing.EVENTS, params) if api is not None else ():
        yield from page.objects
