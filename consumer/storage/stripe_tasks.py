"""How far that is which asks Stripe's API: rows of `stripe_tasks`, read and written."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, text

Cursor = dict[str, Any]


class Task(StrEnum):
    """What a row is about."""

    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a task is; of a backfill an empty cursor says that no run is unfinished."""

    cursor: Cursor
    started_at: datetime
    updated_at: datetime
    completed_at: datetime | None


_LOAD = text("""
SELECT cursor, started_at, updated_at, completed_at FROM stripe_tasks WHERE task = :task
""")
_SAVE = text("""
INSERT INTO stripe_tasks AS stored (task, cursor, started_at, updated_at)
VALUES (:task, CAST(:cursor AS jsonb), now(), now())
ON CONFLICT (task) DO UPDATE SET cursor = excluded.cursor, updated_at = now(),
  started_at = CASE WHEN stored.cursor = '{}' THEN now() ELSE stored.started_at END
""")
_END = text("""
INSERT INTO stripe_tasks AS stored (task, cursor, started_at, updated_at, completed_at)
VALUES (:task, CAST(:cursor AS jsonb), now(), now(), CASE WHEN :whole THEN now() END)
ON CONFLICT (task) DO UPDATE SET cursor = excluded.cursor, updated_at = now(),
  completed_at = coalesce(excluded.completed_at, stored.completed_at)
""")


def load(connection: Connection, task: Task) -> Standing | None:
    """Return how far a task is; None: it never began."""
    row = connection.execute(_LOAD, {"task": task}).one_or_none()
    return None if row is None else Standing(*row)


def save(engine: Engine, task: Task, cursor: Cursor) -> None:
    """Note where a run goes on after a kill; a run without a row begins."""
    with engine.begin() as connection:
        connection.execute(_SAVE, {"task": task, "cursor": json.dumps(cursor)})


def end(engine: Engine, task: Task, *, whole: bool, cursor: Cursor | None = None) -> None:
    """Note that the run has come to its end; `whole`: it saw all there is.

    A cursor that is given stays: where the next run begins.
    """
    asked = {"task": task, "whole": whole, "cursor": json.dumps(cursor or {})}
    with engine.begin() as connection:
        connection.execute(_END, asked)


def was_backfilled(standing: Standing | None) -> bool:
    """Tell whether a backfill was ever completed."""
    return standing is not None and standing.completed_at is not None


def say_backfill(standing: Standing | None) -> str:
    """Say in words for readiness and doctor how far the backfill is."""
    if standing is not None and standing.completed_at is not None:
        return f"completed on {standing.completed_at:%Y-%m-%d at %H:%M} UTC"
    if standing is not None and standing.cursor:
        return "begun and not completed: run `hookline backfill` again, it goes on where it was"
    return (
        "never completed: subscribers from before hookline are unknown until their next event; "
        "`hookline backfill --api` reads them"
    )
