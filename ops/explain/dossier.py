"""Everything that is stored about one customer, as of one moment; blocks on PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from consumer.recall import Recalled, recall
from consumer.recompute import StoredState
from consumer.storage.history import (
    OpenLetter,
    TrailEntry,
    load_customers,
    load_open_letters,
    load_rows,
    load_trail,
    stream_events,
)
from consumer.storage.ledger import StoredCustomer
from consumer.storage.removals import load_removals


@dataclass(frozen=True, slots=True)
class Dossier:
    """One customer's rows, events in Stripe's order, audit trail and open dead letters."""

    customer_id: str
    customer: StoredCustomer | None = None
    rows: tuple[StoredState, ...] = ()
    """Its own, and those of other customers that its events name."""
    events: tuple[Recalled, ...] = ()
    trail: tuple[TrailEntry, ...] = ()
    letters: tuple[OpenLetter, ...] = ()
    removed_before: datetime | None = None
    """Up to when events were removed, this customer's or everybody's."""

    @property
    def own(self) -> tuple[StoredState, ...]:
        """The customer's own subscriptions."""
        return tuple(row for row in self.rows if row.customer_id == self.customer_id)

    @property
    def facts_up_to(self) -> datetime | None:
        """Up to when only facts and the trail tell, as events of the customer were removed."""
        told = {fact.id for row in self.own for fact in row.facts or ()}
        told |= {entry.event_id for entry in self.trail if entry.event_id.startswith("evt_")}
        gone = told - {one.event.event_id for one in self.events}
        return self.removed_before if gone else None

    @property
    def is_known(self) -> bool:
        """Tell whether anything at all is stored."""
        return bool(self.customer or self.rows or self.events or self.letters)


def read_dossier(connection: Connection, customer: str) -> Dossier:
    """Read one customer's dossier; of one moment if the transaction is a snapshot."""
    events = tuple(map(recall, stream_events(connection, [customer])))
    named = {one.reading.subscription for one in events if one.reading.subscription}
    return Dossier(
        customer,
        load_customers(connection, [customer]).get(customer),
        tuple(map(StoredState.read, load_rows(connection, [customer], named))),
        events,
        tuple(load_trail(connection, customer)),
        tuple(load_open_letters(connection, customer)),
        load_removals(connection, [customer]).latest(customer),
    )
