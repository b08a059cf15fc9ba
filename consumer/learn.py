"""What Stripe's API said through the batch, in parts; blocks on PostgreSQL and Redis.

Each part is one transaction, and learning the same again changes nothing: whoever stops in
between goes on anywhere before. Consumers may run beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import stamina
from sqlalchemy import Connection

from consumer.errors import Reject, Retry
from consumer.fetched import Fetched
from consumer.fold import Changes, Fold
from consumer.storage.history import load_customers
from consumer.storage.ledger import Ledger, StoredCustomer
from consumer.storage.statements import load_subscriptions
from schemas.plans import Plans

ATTEMPTS = 10
ATTEMPT_SECONDS = 60.0


class Learns(Protocol):
    """What applies a part; in production the batch."""

    def learn(self, fetched: Sequence[Fetched], *, is_backfill: bool) -> Changes:
        """Merge what Stripe's API said; raises Retry, Reject or Halt."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What became of a part; `refused` is what PostgreSQL does not store, with why."""

    changes: Sequence[Changes] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: "Learned") -> "Learned":
        return Learned((*self.changes, *other.changes), {**self.refused, **other.refused})


@dataclass(frozen=True, slots=True)
class Learner:
    """Runs fetched objects through the batch; for one caller at a time."""

    ledger: Ledger
    batch: Learns

    def learn(self, fetched: Sequence[Fetched], *, is_backfill: bool) -> Learned:
        """Merge a part, all but what PostgreSQL refuses; safe to repeat.

        A database that is away or contended is tried again for a minute. Raises Retry after
        that, or Halt.
        """
        if not fetched:
            return Learned()
        try:
            return Learned((_patiently(self._learn, fetched, is_backfill=is_backfill),))
        except Reject as reject:
            if len(fetched) == 1:
                name = fetched[0].subscription or fetched[0].customer
                return Learned(refused={name: str(reject)})
        half = len(fetched) // 2
        first = self.learn(fetched[:half], is_backfill=is_backfill)
        return first + self.learn(fetched[half:], is_backfill=is_backfill)

    def _learn(self, fetched: Sequence[Fetched], *, is_backfill: bool) -> Changes:
        try:
            return self.batch.learn(fetched, is_backfill=is_backfill)
        except Retry:
            self.ledger.close()
            raise


def preview(
    connection: Connection, fetched: Sequence[Fetched], plans: Plans, grace: timedelta
) -> Changes:
    """Return what a backfill would write now; locks and writes nothing."""
    ids = {one.customer for one in fetched}
    known = load_customers(connection, ids)
    customers = {id_: known.get(id_, StoredCustomer(id_)) for id_ in ids}
    named = {one.subscription for one in fetched if one.subscription}
    fold = Fold(plans, grace, customers, load_subscriptions(connection, named))
    for one in fetched:
        fold.learn(one, is_backfill=True)
    return fold.changes()


_patiently = stamina.RetryingCaller(attempts=ATTEMPTS, timeout=ATTEMPT_SECONDS).on(Retry)
