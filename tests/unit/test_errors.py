"""Each class of database error gets the verdict that neither loses nor blocks."""

import psycopg
import pytest
from psycopg import errors

from consumer.errors import Cause, Halt, Reject, Retry, verdict_of

CASES = [
    ("22001", Reject, None),
    ("23505", Reject, None),
    ("40001", Retry, Cause.CONTENTION),
    ("40P01", Retry, Cause.CONTENTION),
    ("55P03", Retry, Cause.CONTENTION),
    ("08006", Retry, Cause.AWAY),
    ("25006", Retry, Cause.AWAY),
    ("28P01", Retry, Cause.AWAY),
    ("53100", Retry, Cause.AWAY),
    ("53300", Retry, Cause.AWAY),
    ("57014", Retry, Cause.AWAY),
    ("57P01", Retry, Cause.AWAY),
    ("57P03", Retry, Cause.AWAY),
    ("42P01", Halt, None),
    ("42501", Halt, None),
    ("42703", Halt, None),
    ("0LXXX", Halt, None),
]


class StatedError(psycopg.Error):
    """A database error of any state."""

    def __init__(self, state: str) -> None:
        super().__init__("first line\nsecond line with a row's data")
        self.sqlstate = state


@pytest.mark.parametrize(("state", "verdict", "cause"), CASES)
def test_verdict_by_sqlstate(state: str, verdict: type[Exception], cause: Cause | None) -> None:
    """A SQLSTATE decides what the loop does, and no row leaks into the message."""
    found = verdict_of(StatedError(state))
    assert type(found) is verdict
    assert getattr(found, "cause", None) == cause
    assert "second line" not in str(found)


def test_a_lost_connection_is_retried() -> None:
    """Without a SQLSTATE the connection broke: the outcome may be in doubt, so never rejected."""
    found = verdict_of(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert isinstance(found, Retry)
    assert found.cause is Cause.AWAY


def test_a_value_the_driver_refuses_is_the_datas_fault() -> None:
    """A NUL in a text never reaches the server; it is one event's fault."""
    assert isinstance(verdict_of(errors.DataError("text cannot contain NUL")), Reject)
