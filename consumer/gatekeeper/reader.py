"""Reading entitlements: rows from the primary, the answer from the pure core."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from consumer.billing.entitlement import entitle
from schemas.access import why_postgres_refuses
from schemas.entitlement import Entitlement
from schemas.plans import Plans
from schemas.settings import GatekeeperSettings

READ_SECONDS = 2.0
STATEMENT_TIMEOUT_MS = 1_500
CONCURRENT_READS = 16
"""More would queue in PostgreSQL instead of here."""

_COLUMNS = """
SELECT customer.customer_id, customer.version, owned.subscription_id, owned.status, owned.tier,
  owned.current_period_end, owned.grace_until
FROM customers AS customer LEFT JOIN subscriptions AS owned USING (customer_id)
"""
_BY_CUSTOMER = text(_COLUMNS + "WHERE customer.customer_id = :key")
_BY_REFERENCE = text(_COLUMNS + "WHERE customer.reference = :key ORDER BY customer.customer_id")


class Unreadable(Exception):  # noqa: N818 - named by what the caller is told
    """PostgreSQL did not answer in time."""


def make_engine(settings: GatekeeperSettings) -> AsyncEngine:
    """Return a pool of read-only connections to the primary; a replica could be behind itself."""
    return create_async_engine(
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


class Reader:
    """Answers what a customer may use, from PostgreSQL; for one event loop."""

    def __init__(
        self,
        engine: AsyncEngine,
        plans: Plans,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._plans = plans
        self._now = now

    async def by_customer(self, customer: str) -> Entitlement:
        """Return a customer's answer; one never seen has the default tier. Raises Unreadable."""
        rows = await self._read(_BY_CUSTOMER, customer)
        return self._answer(customer, rows)

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

    def _answer(self, customer: str, rows: Sequence[Row[Any]]) -> Entitlement:
        owned = [row for row in rows if row.subscription_id is not None]
        version = rows[0].version if rows else 0
        return entitle(customer, owned, self._now(), self._plans, version=version)

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
        async with self._engine.connect() as connection:
            return (await connection.execute(statement, {"key": key})).all()
