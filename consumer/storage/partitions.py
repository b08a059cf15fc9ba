"""Monthly partitions of webhook_events, made ahead of time."""

from datetime import date

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

log = structlog.get_logger()

MONTHS_AHEAD = 2

_EXISTS = text("SELECT to_regclass(:name) IS NOT NULL")


def attach_months(connection: Connection, today: date, ahead: int = MONTHS_AHEAD) -> list[str]:
    """Attach the partitions of last month, this month and the months ahead; return the new ones.

    Safe to repeat and to run in several processes. A month whose events already stand in the
    default partition stays there. Waits at most a second for a lock, then leaves it for the
    next time; raises nothing for that.
    """
    first = _add_months(today.replace(day=1), -1)
    months = [_add_months(first, step) for step in range(ahead + 2)]
    return [name for month in months if (name := _attach(connection, month))]


def month_name(month: date) -> str:
    """Return the name of the table that holds a month's events."""
    return f"webhook_events_{month:%Y_%m}"


def _attach(connection: Connection, month: date) -> str | None:
    name = month_name(month)
    if connection.scalar(_EXISTS, {"name": name}):
        return None
    try:
        with connection.begin_nested():
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            # LIKE, then ATTACH: CREATE … PARTITION OF would block every writer behind any
            # open transaction.
            connection.execute(text(f"CREATE TABLE {name} (LIKE webhook_events INCLUDING ALL)"))
            connection.execute(
                text(
                    f"ALTER TABLE webhook_events ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ('{month:%Y-%m-%d} 00:00+00') "
                    f"TO ('{_add_months(month, 1):%Y-%m-%d} 00:00+00')"
                )
            )
    except DBAPIError as error:
        log.info("partition_not_attached", partition=name, why=type(error.orig).__name__)
        return None
    return name


def _add_months(month: date, count: int) -> date:
    years, index = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=index + 1)
