"""What Stripe's API says of an object now, as facts; pure.

No event stands behind such a fact. It is stamped with a second at which Stripe surely knew all
that it says, one before the server's Date, so an event that the answer did not hold is never
hidden by it. A fact of the same id cannot come from an event: those begin with `evt_`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from consumer.billing.facts import Fact, FactSet, Invoice, Snapshot, texts_of
from consumer.billing.handlers import Reading, read_event
from consumer.decode import describe
from schemas.stripe_event import (
    BadEvent,
    Json,
    StripeEvent,
    check_storable,
    customer_id_of,
)

PREFIX = "fetch_"
FAILURE = "invoice.payment_failed"
_UNPAID = frozenset({"open", "uncollectible"})
_FETCHED = "hookline.fetched"
"""Stands for an event's type; whatever is read of an object is read by the object's own kind."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object of Stripe's: whose it is, what it says, and the second it said so."""

    id: str
    at: int
    customer: str
    subscription: str | None = None
    facts: FactSet = frozenset()
    reference: str | None = None

    @property
    def created_at(self) -> datetime:
        """The second as a moment, UTC."""
        return datetime.fromtimestamp(self.at, UTC)


def read_fetched(obj: Json, at: int, failures: Iterable[Invoice] = ()) -> Fetched:
    """Read a subscription, a customer or a checkout session as Stripe's API answers it.

    A subscription's expanded latest invoice is read as well; `failures` are what is known
    otherwise of payments of it that failed. Raises BadEvent for what cannot be read or stored.
    """
    customer = customer_id_of(obj)
    if customer is None:
        raise BadEvent("undecodable", "it names no customer")
    reading = _read(obj, at, _FETCHED)
    facts: set[Fact] = set() if reading.fact is None else {reading.fact}
    invoice = obj.get("latest_invoice")
    if reading.subscription is not None and isinstance(invoice, dict):
        about = _read(invoice, at, _FETCHED)
        if about.fact is not None and about.subscription == reading.subscription:
            facts.add(about.fact)
        facts.update(one for one in failures if one.invoice == invoice.get("id"))
    check_storable(customer, reading.subscription, reading.reference)
    check_storable(*(text for fact in facts for text in texts_of(fact)))
    return Fetched(
        id=f"{PREFIX}{at}",
        at=at,
        customer=customer,
        subscription=reading.subscription,
        facts=frozenset(facts),
        reference=reading.reference,
    )


def read_failure(document: Json) -> tuple[str, Invoice] | None:
    """Read the subscription and the failure that an event of Stripe's list tells of, if any."""
    data, created, name = document.get("data"), document.get("created"), document.get("id")
    obj = data.get("object") if isinstance(data, dict) else None
    if not (isinstance(obj, dict) and isinstance(created, int) and isinstance(name, str)):
        return None
    try:
        reading = _read(obj, created, FAILURE, name)
    except BadEvent:
        return None
    if reading.subscription is None or not isinstance(reading.fact, Invoice):
        return None
    return reading.subscription, reading.fact


def is_overdue(invoice: Json) -> bool:
    """Tell whether Stripe has tried to collect an invoice that is still unpaid."""
    return bool(invoice.get("attempted")) and invoice.get("status") in _UNPAID


def read_old_failure(invoice: Json, at: int) -> Invoice | None:
    """Return the failure of an unpaid invoice whose event is gone: since it was due, or None.

    Stripe tries to collect an invoice when it finalizes it, and says of no later moment.
    """
    if not is_overdue(invoice):
        return None
    transitions = invoice.get("status_transitions")
    finalized = transitions.get("finalized_at") if isinstance(transitions, dict) else None
    since = finalized or invoice.get("created")
    if not isinstance(since, int):
        return None
    reading = _read(invoice, since, FAILURE, f"{PREFIX}{at}")
    return reading.fact if isinstance(reading.fact, Invoice) else None


def tells_nothing_new(known: FactSet, fetched: Fetched) -> bool:
    """Tell whether Stripe said the same before: asking again then leaves everything as it is.

    Otherwise each run would replace each snapshot by one of a later second. What an event said
    is replaced once, which makes it proof against older events that come later.
    """
    return all(_is_known(known, fact) for fact in fetched.facts)


def _is_known(known: FactSet, fact: Fact) -> bool:
    if isinstance(fact, Invoice):
        return any(
            isinstance(one, Invoice) and one.invoice == fact.invoice and one.paid >= fact.paid
            for one in known
        ) or any(isinstance(one, Snapshot) and one.is_ended for one in known)
    snapshots = [one for one in known if isinstance(one, Snapshot)]
    latest = max((one.at for one in snapshots), default=0)
    newest = [one for one in snapshots if one.at == latest]
    # Not known while another state bears the same second: this answer is what settles it.
    return all(
        isinstance(fact, Snapshot)
        and one.after == fact.after
        and (one.id.startswith(PREFIX) or one.is_ended)
        for one in newest
    ) and bool(newest)


def _read(obj: Json, at: int, kind: str, name: str | None = None) -> Reading:
    event = StripeEvent(
        id=name or f"{PREFIX}{at}",
        type=kind,
        created=at,
        livemode=obj.get("livemode") is True,
        api_version=None,
        account=None,
        object=obj,
        previous_attributes=None,
    )
    try:
        return read_event(event)
    except Exception as error:
        # One object must not stop the others.
        raise BadEvent("handler", describe(error)) from error
