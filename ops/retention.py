"""`hookline retention`: drops the events of old months; says what, and does it if told to."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import stamina
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from consumer.errors import Retry, verdict_of
from consumer.storage.engine import make_engine
from consumer.storage.history import allow_endless_statements, snapshot
from consumer.storage.partitions import add_months, start_of
from consumer.storage.removals import (
    Holding,
    count_month,
    count_others,
    count_resolved_letters,
    drop_month,
    drop_others,
    drop_resolved_letters,
    months_before,
    record_removal,
)
from ops.counting import count
from ops.explain.words import day
from schemas.settings import DatabaseSettings

ATTEMPTS = 40
ATTEMPT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Old:
    """What lies before a moment: events by month, events of other months, resolved letters."""

    before: datetime
    months: dict[date, int]
    others: int
    letters: int

    @property
    def events(self) -> int:
        """How many events in all."""
        return sum(self.months.values()) + self.others

    def lines(self) -> Iterator[str]:
        """Say it, a line for each part."""
        for month, events in self.months.items():
            yield f"{month:%Y-%m}: {count(events, 'event')}, the whole table"
        if self.others:
            yield f"months without a table of their own: {count(self.others, 'event')}"
        if self.letters:
            yield f"{count(self.letters, 'dead letter')}, resolved"


def run(settings: DatabaseSettings, *, months: int, yes: bool) -> int:
    """Drop what is older than so many whole months before this one, or say what; return 0.

    Blocks. Interrupted, it leaves whole months and the record of those that are gone; safe to
    repeat. Facts, rows, the audit trail and open dead letters stay. Raises sqlalchemy's
    DBAPIError, also where somebody has held the table for a minute.
    """
    engine = make_engine(settings, "retention")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    old = find_old(engine, add_months(datetime.now(UTC).date().replace(day=1), -months))
    if not (old.months or old.events or old.letters):
        console.print(f"Nothing from before {day(old.before)} is left to remove.")
        return 0
    for line in old.lines():
        console.print(line)
    if not yes:
        console.print(f"Nothing was removed; --yes removes what is from before {day(old.before)}.")
        return 0
    remove(engine, old)
    console.print(
        f"Removed {count(old.events, 'event')} from before {day(old.before)}. What they told is "
        "kept as facts, by which `hookline recompute` and `explain` go on."
    )
    return 0


def find_old(engine: Engine, first_kept: date) -> Old:
    """Return what lies before a month."""
    before = start_of(first_kept)
    with snapshot(engine) as connection:
        allow_endless_statements(connection)
        months = months_before(connection, first_kept)
        return Old(
            before,
            {month: count_month(connection, month) for month in months},
            count_others(connection, before),
            count_resolved_letters(connection, before),
        )


def remove(engine: Engine, old: Old) -> None:
    """Remove it, the oldest month first, each in a transaction with its record."""
    for month, events in old.months.items():
        _patiently(_remove_month, engine, month, events)
    if not (old.others or old.letters):
        return
    with engine.begin() as connection:
        allow_endless_statements(connection)
        letters = drop_resolved_letters(connection, old.before)
        record_removal(connection, None, old.before, Holding(old.others, letters, None))
    while _patiently(_remove_others, engine, old.before):
        pass


def _remove_month(engine: Engine, month: date, events: int) -> None:
    with engine.begin() as connection:
        drop_month(connection, month)
        record_removal(connection, None, start_of(add_months(month, 1)), Holding(events, 0, None))


def _remove_others(engine: Engine, before: datetime) -> int:
    with engine.begin() as connection:
        return drop_others(connection, before)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and isinstance(verdict_of(error), Retry)


_patiently = stamina.RetryingCaller(attempts=ATTEMPTS, timeout=ATTEMPT_SECONDS).on(_may_pass)
