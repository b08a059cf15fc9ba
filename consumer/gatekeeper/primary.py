"""Entitlements as PostgreSQL has them: rows from the primary, the answer from the pure core.

Whether a grace period is over is asked of PostgreSQL's clock, in the statement that reads the
rows: this machine's may be wrong, and SQL users of customer_entitlements get the same answer.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol

from sqlalchemy import Row, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from consumer.billing.entitlement import entitle
from consumer.storage.engine import suit_pool
from schemas.access import why_postgres_refuses
from schemas.entitlement import Entitlement
from schemas.plans import Plans
from schemas.redis_keys import ENTITLEMENT_SECONDS
from schemas.settings import ReaderSettings

READ_SECONDS = 2.0
STATEMENT_TIMEOUT_MS = 1_500
CONCURRENT_READS = 16
"""More would queue in PostgreSQL instead of here."""

_COLUMNS = """
SELECT now() AS read_at, customer.customer_id, customer.version, customer.updated_at,
  owned.subscription_id, owned.status, owned.tier, owned.current_period_end, owned.grace_until
FROM (SELECT) AS one {join}
LEFT JOIN subscriptions AS owned USING (customer_id)
"""
_BY_CUSTOMER = text(
    _COLUMNS.format(join="LEFT JOIN customers AS customer ON customer.customer_id = :key")
)
_BY_REFERENCE = text(
    _COLUMNS.format(join="JOIN customers AS customer ON customer.reference = :key")
    + "ORDER BY customer.customer_id"
)


class Unreadable(Exception):  # noqa: N818 - named by what the caller is told
    """PostgreSQL did not answer in time."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """An answer out of PostgreSQL."""

    answer: Entitlement
    read_at: datetime
    """When, by PostgreSQL's clock."""
    changed_at: datetime | None
    """When the transaction that changed it last began; None for a customer never seen."""
    asked_at: float
    """When the question was asked, by this machine's monotonic clock."""

    def lifetime(self, monotonic: float) -> float:
        """Return for how many seconds from then on the answer may be kept.

        Counted from the question: by then PostgreSQL may have answered, so it ends no later than
        the grace period does, whatever this machine's clock says.
        """
        edge = self.answer.valid_until
        if edge is None:
            return ENTITLEMENT_SECONDS
        left = (edge - self.read_at).total_seconds() - (monotonic - self.asked_at)
        return min(ENTITLEMENT_SECONDS, left)


class Primary(Protocol):
    """What the reader asks of PostgreSQL; raises Unreadable."""

    async def by_customer(self, customer: str) -> Fresh:
        """Return a customer's answer; one never seen has the default tier."""

    async def by_reference(self, reference: str) -> Entitlement | None:
        """Return the best answer among the customers of a reference; None where there is none."""


def make_engine(settings: ReaderSettings) -> AsyncEngine:
    """Return a pool of read-only connections to the primary; a replica could be behind itself."""
    engine = create_async_engine(
        settings.sqlalchemy_url(),
        pool_size=CONCURRENT_READS,
        max_overflow=0,
        pool_timeout=READ_SECONDS,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "application_name": "hookline-gatekeeper",
            "connect_timeout": 2,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC"
            " -c default_transaction_read_only=on",
        },
    )
    event.listen(engine.sync_engine, "connect", suit_pool)
    return engine


class PostgresPrimary:
    """Reads from PostgreSQL, sixteen reads at a time; for one event loop."""

    def __init__(self, engine: AsyncEngine, plans: Plans) -> None:
        self.engine = engine
        self._plans = plans

    async def by_customer(self, customer: str) -> Fresh:
        """Return a customer's answer; one never seen has the default tier. Raises Unreadable."""
        asked_at = time.monotonic()
        rows = await self._read(_BY_CUSTOMER, customer)
        first = rows[0]
        answer = self._answer(customer, rows)
        return Fresh(answer, first.read_at, first.updated_at, asked_at)

    async def by_reference(self, reference: str) -> Entitlement | None:
        """Return the best answer among the customers of a reference; None where there is none.

        Best is: entitled, then the higher tier, then the greater customer id. Raises Unreadable.
        """
        rows = await self._read(_BY_REFERENCE, reference)
        answers = [
            self._answer(customer, list(owned))
            for customer, owned in groupby(rows, key=attrgetter("customer_id"))
        ]
        return max(
            answers,
            key=lambda a: (a.entitled, self._plans.rank(a.tier), a.customer),
            default=None,
        )

    async def ping(self) -> str | None:
        """Say what keeps PostgreSQL from answering, or None."""
        try:
            await self._read(_BY_CUSTOMER, "")
        except Unreadable as error:
            return str(error)
        return None

    async def close(self) -> None:
        """Close all connections; safe to repeat."""
        await self.engine.dispose()

    def _answer(self, customer: str, rows: Sequence[Row[Any]]) -> Entitlement:
        owned = [row for row in rows if row.subscription_id is not None]
        version = rows[0].version or 0
        return entitle(customer, owned, rows[0].read_at, self._plans, version=version)

    async def _read(self, statement: Any, key: str) -> Sequence[Row[Any]]:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._execute_afresh(statement, key)
        except TimeoutError:
            raise Unreadable("PostgreSQL does not answer in time") from None
        except (SQLAlchemyError, OSError) as error:
            if why := why_postgres_refuses(str(error)):
                raise Unreadable(why) from error
            kind = type(error.orig if isinstance(error, DBAPIError) else error).__name__
            raise Unreadable(f"PostgreSQL cannot be read ({kind})") from error

    async def _execute_afresh(self, statement: Any, key: str) -> Sequence[Row[Any]]:
        """Read, once more if the connection is from before a restart of PostgreSQL.

        The first such failure makes the pool throw all connections of that time away.
        """
        try:
            return await self._execute(statement, key)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return await self._execute(statement, key)

    async def _execute(self, statement: Any, key: str) -> Sequence[Row[Any]]:
        async with self.engine.connect() as connection:
            return (await connection.execute(statement, {"key": key})).all()
