"""The port to what is recorded: the transaction of a batch, whoever keeps the rows.

PostgreSQL keeps them (postgres.py). A twin in memory stands in for it where a test needs to say
when each call fails, waits or returns late; tests/contract holds both to the same promises.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

import msgspec

from consumer.storage.dead_letters import DeadLetter, Recent, Standing
from consumer.storage.grace import Expired
from consumer.storage.positions import PositionRows
from consumer.storage.stored_letters import Failure
from schemas.plans import Plans

Row = Mapping[str, Any]
"""One row to write, by column name."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """What stands in webhook_events of an event id that came again."""

    outcome: str
    api_version: str | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """How many batches' cache entries wait to be dropped, and for how long at most."""

    rows: int = 0
    oldest_seconds: float = 0.0


class StoredCustomer(msgspec.Struct, frozen=True):
    """A locked row of customers."""

    customer_id: str
    reference: str | None = None
    reference_created_at: datetime | None = None
    reference_event_id: str | None = None
    version: int = 0


class StoredSubscription(msgspec.Struct, frozen=True):
    """A row of subscriptions; `facts` is the JSON text of its set."""

    subscription_id: str
    customer_id: str
    facts: str
    version: int


class Transaction(PositionRows, Protocol):
    """All that a batch and the housekeeping do between BEGIN and COMMIT; every call blocks.

    READ COMMITTED: each call sees what is committed by then, and what this transaction wrote.
    Locks are held until the end. Raises Retry, Reject or Halt.
    """

    def lock_customers(self, ids: Collection[str]) -> dict[str, StoredCustomer]:
        """Add the customers that are missing and lock all of them, in order."""

    def find_recorded(self, created: Mapping[str, datetime]) -> dict[str, RecordedEvent]:
        """Return what stands recorded of these event ids, each with its `created`."""

    def load_subscriptions(self, ids: Collection[str]) -> dict[str, StoredSubscription]:
        """Return the subscriptions of these ids that are stored."""

    def write_events(self, rows: Sequence[Row]) -> None:
        """Record events with their outcome; one that had failed gets the new outcome."""

    def write_subscriptions(self, rows: Sequence[Row]) -> None:
        """Write subscriptions whose customers this transaction has locked."""

    def write_customers(self, rows: Sequence[Row]) -> None:
        """Write customers that this transaction has locked."""

    def write_audit(self, rows: Sequence[Row]) -> None:
        """Append audit entries in the order given."""

    def write_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Set records aside; one that is open already counts an attempt."""

    def resolve_letters(self, event_ids: Sequence[str]) -> None:
        """Close the open dead letters of events that are applied now."""

    def close_letters(self, ids: Sequence[int]) -> None:
        """Close these dead letters; one that is closed stays as it is."""

    def note_failures(self, failures: Sequence[Failure]) -> set[int]:
        """Count a failed replay of these open dead letters; return the ids that were open."""

    def count_recent(self) -> Recent:
        """Read how many dead letters point at a fault of ours; restarts do not reset it."""

    def read_standing(self) -> Standing:
        """Read how many dead letters are open, since when, and when one was last seen to."""

    def record_invalidation(self, customers: Sequence[str]) -> int:
        """Note that these customers' cache entries must go; return the row's id."""

    def delete_invalidations(self, ids: Sequence[int]) -> None:
        """Forget rows whose entries are gone."""

    def take_overdue(self, most: int) -> dict[int, list[str]]:
        """Lock rows older than a second that nobody else has locked; return their customers."""

    def expire_invalidations(self, seconds: float) -> None:
        """Forget rows that are older than that."""

    def count_overdue(self) -> Overdue:
        """Count the rows older than a second."""

    def expire_graces(self, since: datetime | None, most: int) -> Expired:
        """Write `grace_period_expired` once for each grace period that ended after a moment.

        What another transaction has locked is left for the next look.
        """

    def write_tiers(self, plans: Plans) -> None:
        """Make the tiers that SQL users see equal the plans; safe to repeat."""

    def attach_months(self, today: date) -> None:
        """Make room for the events of the months ahead; safe to repeat."""


class Ledger(Protocol):
    """One process's way to its transactions; for one caller at a time."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Run a transaction: commit at the end, roll back on any exception.

        Blocks. Raises Retry (nothing stands, or it is in doubt), Reject or Halt.
        """

    def ending_blockers(self) -> AbstractContextManager[None]:
        """While open, end sessions of our own role that have long kept this one waiting."""

    def close(self) -> None:
        """Give the connection up, whatever state it is in; safe to repeat."""
