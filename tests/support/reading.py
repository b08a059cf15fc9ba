"""Readers of entitlements on the real servers, and whoever changes what they read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumer.gatekeeper.client import AsyncGatekeeper
from schemas.entitlement import Entitlement
from schemas.redis_keys import entitlement_key, lease_key
from schemas.settings import ReaderSettings
from support.pipeline import PLANS_TEXT

INSERT = """
INSERT INTO subscriptions (subscription_id, customer_id, status, tier, prices,
  cancel_at_period_end, current_period_end, grace_until, ambiguous, facts, version)
VALUES (%s, %s, %s, %s, '{}', false, %s, %s, false, '[1]', 1)
"""


class Store:
    """A database and a Redis, as consumers leave them."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self.plans_file = folder / "plans.toml"
        self.plans_file.write_text(PLANS_TEXT)
        self.settings = ReaderSettings(
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
            plans_file=self.plans_file,
        )
        self.database = psycopg.connect(database_url, autocommit=True)
        self.redis = redis.Redis.from_url(redis_url)

    @property
    def generation(self) -> str:
        """Return the server's generation."""
        return str(self.redis.info("server")["run_id"])

    def add(self, customer: str, *subscriptions: Sequence[Any], reference: str = "") -> None:
        """Store a customer with (id, status, tier, period end, grace until) each."""
        with self.database.transaction():
            self.database.execute(
                "INSERT INTO customers (customer_id, reference, version) VALUES (%s, %s, 7)",
                [customer, reference or None],
            )
            for name, *rest in subscriptions:
                self.database.execute(INSERT, [name, customer, *rest])

    def change(self, customer: str, tier: str) -> None:
        """Commit another tier, and drop nothing."""
        with self.database.transaction():
            self.database.execute(
                "UPDATE subscriptions SET tier = %s WHERE customer_id = %s", [tier, customer]
            )
            self.database.execute(
                "UPDATE customers SET version = version + 1, updated_at = now() "
                "WHERE customer_id = %s",
                [customer],
            )

    def drop(self, customer: str) -> None:
        """Drop entry and lease, as a consumer does after its COMMIT."""
        self.redis.unlink(self.entry(customer), self.lease(customer))

    def do(self, *command: str) -> None:
        """Give Redis a command."""
        self.redis.execute_command(*command)  # type: ignore[no-untyped-call]

    def entry(self, customer: str) -> str:
        """Return the key of a customer's entry."""
        return entitlement_key(self.generation, customer)

    def lease(self, customer: str) -> str:
        """Return the key of a customer's lease."""
        return lease_key(self.generation, customer)

    def close(self) -> None:
        """Close what was opened."""
        self.database.close()
        self.redis.close()


PATIENT_SECONDS = 10.0
"""For Redis' answers on a busy machine, where a test is not about the limit."""


@asynccontextmanager
async def reading(
    settings: ReaderSettings,
    registry: CollectorRegistry | None = None,
    redis_seconds: float = PATIENT_SECONDS,
) -> AsyncIterator[AsyncGatekeeper]:
    """Provide a gatekeeper that has met Redis already, if that is there."""
    async with AsyncGatekeeper(
        settings, registry=registry, redis_seconds=redis_seconds
    ) as gatekeeper:
        await gatekeeper.line.greet()
        yield gatekeeper


async def until_cached(gatekeeper: AsyncGatekeeper, customer: str) -> Entitlement:
    """Ask until an answer comes out of the cache; raises TimeoutError after half a minute."""
    async with asyncio.timeout(30):
        while (answer := await gatekeeper.by_customer(customer)).source != "cache":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return answer
