"""Ending a database session that holds our rows and will not let go by itself.

A consumer that was stopped in mid-transaction is ended by PostgreSQL's own limits, unless its
session is stuck sending: then no limit of the server applies, and its successor would wait for
good.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from consumer.errors import Halt

log = structlog.get_logger()

LOOK_AFTER_SECONDS = 1.0
"""Less than the lock timeout: who blocks us can be told only while we wait."""

HELD_SECONDS = 6.0
"""Two lock timeouts: a rival that merely stands before us in the queue is not that old."""

_END = text("""
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE pid = ANY(pg_blocking_pids(:waiting)) AND usename = current_user
  AND xact_start < clock_timestamp() - make_interval(secs => CAST(:held AS float8))
""")


@contextmanager
def ending_blockers(engine: Engine, waiting: int, on_end: Callable[[], None]) -> Iterator[None]:
    """While the context is open, end sessions of our role that have long blocked this backend.

    Looks once, a second in, over a connection of its own; calls `on_end` for each that ended.
    """
    timer = threading.Timer(LOOK_AFTER_SECONDS, _end, (engine, waiting, on_end))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _end(engine: Engine, waiting: int, on_end: Callable[[], None]) -> None:
    try:
        with engine.begin() as connection:
            found = connection.execute(_END, {"waiting": waiting, "held": HELD_SECONDS}).all()
    except (DBAPIError, Halt) as error:
        log.warning("blockers_not_found", why=type(error).__name__)
        return
    for row in found:
        log.warning("backend_ended", pid=row.pid, ended=row.ended)
        if row.ended:
            on_end()
