"""One process at a time asks Stripe for one purpose; PostgreSQL says which."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from sqlalchemy import Engine, text


class Turn(IntEnum):
    """Advisory locks of this database, one a purpose; any numbers that nobody else uses."""

    BACKFILL = 4_704_021_765_389_107_713
    RECONCILE = 4_704_021_765_389_107_714
    VERIFY = 4_704_021_765_389_107_715
    TIES = 4_704_021_765_389_107_716


@contextmanager
def take_turn(engine: Engine, turn: Turn) -> Iterator[bool]:
    """Hold a turn while the context is open; False where another process has it. Never waits.

    The lock is that of a transaction, which a pooler in transaction mode keeps together.
    """
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        taken = connection.scalar(
            text("SELECT pg_try_advisory_xact_lock(:turn)"), {"turn": int(turn)}
        )
        yield bool(taken)
