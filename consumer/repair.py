"""Compare stored customers with their recorded events, and mend them; blocks on PostgreSQL.

Looking takes no lock: each page of customers is read in one snapshot, so that a consumer at work
cannot look like a difference. Mending takes the same row locks as a batch and looks again under
them, one customer a transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

import stamina
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from consumer.errors import Retry, verdict_of
from consumer.recall import Memory, recall
from consumer.recompute import Findings, StoredState, mend, recompute
from consumer.storage.history import (
    allow_long_statements,
    find_strays,
    load_customers,
    load_rows,
    next_customers,
    snapshot,
    stream_events,
)
from consumer.storage.invalidation import record_invalidation
from consumer.storage.ledger import StoredCustomer
from consumer.storage.statements import (
    lock_customers,
    write_audit,
    write_customers,
    write_subscriptions,
)
from schemas.plans import Plans

CUSTOMERS_AT_ONCE = 200
"""One snapshot covers so many: a longer one would keep PostgreSQL from clearing dead rows."""

MEND_ATTEMPTS = 10
MEND_SECONDS = 60.0


class Repair:
    """Finds what differs from the recorded events, and mends it."""

    def __init__(self, engine: Engine, plans: Plans, grace: timedelta) -> None:
        self._engine = engine
        self._plans = plans
        self._grace = grace

    def examine_all(self) -> Iterator[Findings]:
        """Yield what is known of every customer; memory stays that of one page.

        Those come last whom events or subscriptions name, and who have no row of their own.
        """
        after = ""
        while True:
            with snapshot(self._engine) as connection:
                page = next_customers(connection, after, CUSTOMERS_AT_ONCE)
                found = list(self.examine(connection, page))
            if not page:
                break
            yield from found
            after = page[-1]
        with snapshot(self._engine) as connection:
            strays = find_strays(connection)
        for first in range(0, len(strays), CUSTOMERS_AT_ONCE):
            with snapshot(self._engine) as connection:
                found = list(self.examine(connection, strays[first : first + CUSTOMERS_AT_ONCE]))
            yield from found

    def examine_one(self, customer: str) -> Findings:
        """Return what is known of one customer."""
        with snapshot(self._engine) as connection:
            return next(self.examine(connection, [customer]))

    def examine(self, connection: Connection, customers: Sequence[str]) -> Iterator[Findings]:
        """Yield what is known of these customers, as the open transaction sees them."""
        stored = load_customers(connection, customers)
        owned: dict[str, list[StoredState]] = {customer: [] for customer in customers}
        for row in load_rows(connection, customers):
            owned[row["customer_id"]].append(StoredState.read(row))
        silent = dict.fromkeys(customers)
        for customer, events in groupby(
            stream_events(connection, customers), key=attrgetter("customer_id")
        ):
            del silent[customer]
            memory = Memory(customer)
            for event in events:
                memory.add(recall(event))
            yield self._compare(connection, memory, stored.get(customer), owned[customer])
        for customer in silent:
            yield self._compare(connection, Memory(customer), stored.get(customer), owned[customer])

    def mend(self, findings: Findings, now: Callable[[], datetime]) -> Findings:
        """Write what differs of one customer, and return what differed under the locks.

        Nothing may differ any more by then. Safe to repeat; a row that somebody holds is waited
        for and tried again. Raises sqlalchemy's DBAPIError.
        """
        owners = findings.owners
        while True:
            seen = _patiently(self._mend, findings.customer_id, owners, now)
            if seen.owners <= owners:
                return seen
            owners = owners | seen.owners

    def _mend(self, customer: str, owners: set[str], now: Callable[[], datetime]) -> Findings:
        """Mend under the locks of these customers; others needed as well: write nothing."""
        with self._engine.begin() as connection:
            allow_long_statements(connection)
            missing = owners - load_customers(connection, owners).keys()
            locked = lock_customers(connection, owners)
            seen = next(self.examine(connection, [customer]))
            if not seen.owners <= owners or not (seen.differences or missing):
                return seen
            mending = mend(seen, locked, now())
            write_subscriptions(connection, mending.subscriptions)
            write_customers(connection, mending.customers)
            write_audit(connection, mending.audit)
            record_invalidation(connection, sorted(seen.owners))
        return seen

    def _compare(
        self,
        connection: Connection,
        memory: Memory,
        stored: StoredCustomer | None,
        owned: Sequence[StoredState],
    ) -> Findings:
        elsewhere = memory.facts.keys() - {state.subscription_id for state in owned}
        rows = load_rows(connection, (), elsewhere) if elsewhere else ()
        states = [*owned, *map(StoredState.read, rows)]
        return recompute(memory, stored, states, self._plans, self._grace)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and isinstance(verdict_of(error), Retry)


_patiently = stamina.RetryingCaller(attempts=MEND_ATTEMPTS, timeout=MEND_SECONDS).on(_may_pass)
