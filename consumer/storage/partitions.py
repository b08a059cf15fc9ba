"""Monthly partitions of webhook_events, made ahead of time."""

import re
from datetime import UTC, date, datetime

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

log = structlog.get_logger()

MONTHS_AHEAD = 2
OTHERS = "webhook_events_other"
"""The default partition: events of months that have no table."""

_MONTH_NAME = re.compile(r"webhook_events_(\d{4})_(\d{2})")
_EXISTS = text("SELECT to_regclass(:name) IS NOT NULL")


def attach_months(connection: Connection, today: date, ahead: int = MONTHS_AHEAD) -> list[str]:
    """Attach the partitions of last month, this month and the months ahead; return the new ones.

    Safe to repeat and to run in several processes. A month whose events already stand in the
    default partition stays there. Waits at most a second for a lock, then leaves it for the
    next time; raises nothing for that.
    """
    first = add_months(today.replace(day=1), -1)
    months = [add_months(first, step) for step in range(ahead + 2)]
    return [name for month in months if (name := _attach(connection, month))]


def month_name(month: date) -> str:
    """Return the name of the table that holds a month's events."""
    return f"webhook_events_{month:%Y_%m}"


def month_of(name: str) -> date | None:
    """Return the month whose events a table holds, None for another table."""
    found = _MONTH_NAME.fullmatch(name)
    return date(int(found[1]), int(found[2]), 1) if found else None


def add_months(month: date, count: int) -> date:
    """Return the same day of the month that lies so many months on; the day must be its first."""
    years, index = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=index + 1)


def start_of(month: date) -> datetime:
    """Return the first moment of a month, in UTC."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


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
                    f"TO ('{add_months(month, 1):%Y-%m-%d} 00:00+00')"
                )
            )
    except DBAPIError as error:
        log.info("partition_not_attached", partition=name, why=type(error.orig).__name__)
        return None
    return name
