"""Connections to PostgreSQL as the hot path needs them."""

from typing import Any

from psycopg.types.array import ListBinaryDumper
from psycopg.types.string import StrBinaryDumper
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

from consumer.errors import Halt
from schemas.settings import DatabaseSettings

STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 3_000
IDLE_IN_TRANSACTION_MS = 10_000


def make_engine(settings: DatabaseSettings, process: str) -> Engine:
    """Return an engine without a pool: each process holds one connection and knows when it broke.

    Limits rise strictly: lock < statement < idle in transaction, so that a stopped process
    cannot hold up its successor. Connecting blocks for at most five seconds.
    """
    engine = create_engine(
        settings.sqlalchemy_url(),
        poolclass=NullPool,
        connect_args={
            "application_name": f"hookline-{process}",
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": IDLE_IN_TRANSACTION_MS,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
            f" -c lock_timeout={LOCK_TIMEOUT_MS}"
            f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
            " -c timezone=UTC",
        },
    )
    event.listen(engine, "connect", lambda connection, _: bind_arrays_in_binary(connection))
    event.listen(engine, "connect", _require_limits)
    event.listen(engine, "connect", suit_pool)
    return engine


def suit_pool(connection: Any, _record: Any) -> None:
    """Prepare no statement on a connection through a pool: the next one may have another session.

    Who passes sessions on, as PgBouncer does, gives out process ids of its own.
    """
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = cursor.fetchone()
    cursor.close()
    connection.rollback()
    driver = getattr(connection, "driver_connection", connection)
    if driver.info.backend_pid != pid:
        driver.prepare_threshold = None


def _require_limits(connection: Any, _record: Any) -> None:
    """Refuse a connection whose settings do not stick, as behind a transaction pool."""
    found = connection.execute("SHOW lock_timeout").fetchone()[0]
    connection.commit()
    if found != f"{LOCK_TIMEOUT_MS // 1000}s":
        connection.close()
        raise Halt(
            "HOOKLINE_DATABASE_URL leads through a pool that drops session settings, such as "
            "PgBouncer in transaction mode: name PostgreSQL itself, or set lock_timeout = '3s' and "
            "the other limits for the database (README, Scale out)"
        )


def bind_arrays_in_binary(connection: Any) -> None:
    """Send lists and texts in binary: as escaped text the batch takes five times as long."""
    connection.adapters.register_dumper(list, ListBinaryDumper)
    connection.adapters.register_dumper(str, StrBinaryDumper)
