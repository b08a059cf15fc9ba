"""Three verdicts on what went wrong with a batch: Retry, Reject, Halt.

An exception here is named by what the loop must do. `verdict_of` sorts every error of the
database into one of them; what it does not know halts, for a surprise must not eat a topic.
"""

from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError


class Cause(StrEnum):
    """Why a batch is tried again; a label of the metric for batches."""

    CONTENTION = "contention"
    """Somebody else held a row: the same batch, soon."""
    AWAY = "away"
    """No database, or not one that takes writes: pause, stay in the group, come back."""
    POSITION = "position"
    """The position is not the one this process wrote: load it and seek there."""


class Retry(Exception):  # noqa: N818 - named by what the loop must do
    """Try again; nothing was applied, or it is unknown and the position will tell."""

    def __init__(self, cause: Cause, detail: str) -> None:
        self.cause = cause
        super().__init__(detail)


class Reject(Exception):  # noqa: N818 - same
    """The data of some event in this batch is refused; set that event aside, apply the rest."""


class Halt(Exception):  # noqa: N818 - same
    """Going on would do harm: leave with a sentence that says what to do."""


_CONTENTION = frozenset({"40001", "40P01", "55P03"})
_AWAY = frozenset({"25006", "0A000", "57014"})
_AWAY_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58", "XX"})
_DATA_CLASSES = frozenset({"22", "23"})


def verdict_of(error: DBAPIError | psycopg.Error) -> Retry | Reject | Halt:
    """Sort a database error by SQLSTATE (PostgreSQL, appendix A); never raises.

    Without a SQLSTATE the connection is gone: Retry, as the outcome may be in doubt.
    """
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    detail = _first_line(origin)
    if state is None:
        if isinstance(origin, psycopg.OperationalError | psycopg.InterfaceError):
            return Retry(Cause.AWAY, detail)
        # psycopg itself refused a value before it was sent, such as a NUL in a text.
        return Reject(detail)
    if state in _CONTENTION:
        return Retry(Cause.CONTENTION, detail)
    if state in _AWAY or state[:2] in _AWAY_CLASSES:
        return Retry(Cause.AWAY, detail)
    if state[:2] in _DATA_CLASSES:
        return Reject(detail)
    return Halt(
        f"PostgreSQL refuses what this version writes ({state}: {detail}): "
        "run `hookline migrate` with the same version and check the rights of the role"
    )


def _first_line(error: BaseException | None) -> str:
    """Cut an error to its first line: the ones after it may quote a row."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
