"""Whether subscribers from before hookline were ever brought in: readiness tells it beside."""

import asyncio

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from consumer.storage.stripe_tasks import Task, load, say_backfill, was_backfilled

LOOK_EVERY_SECONDS = 10.0


class BackfillProbe:
    """Looks every ten seconds, until a backfill was completed once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._words = "not asked yet"
        self._done = False

    def say(self) -> str:
        """Return how far the backfill is, as of the last look."""
        return self._words

    async def watch(self) -> None:
        """Look until one was completed; a database that is away is a check's to tell."""
        while not self._done:
            try:
                async with self._engine.connect() as connection:
                    await connection.run_sync(self._look)
            except (SQLAlchemyError, OSError):
                self._words = "not known: PostgreSQL does not answer"
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _look(self, connection: Connection) -> None:
        standing = load(connection, Task.BACKFILL)
        self._words, self._done = say_backfill(standing), was_backfilled(standing)
