"""Each class of database error gets the verdict that neither loses nor blocks."""

import psycopg
import pytest
from confluent_kafka import KafkaError
from psycopg import errors

from consumer.errors import Cause, Halt, Reject, Retry, is_gap, verdict_of, verdict_of_kafka

CASES = [
    ("22001", Reject, None),
    ("23505", Reject, None),
    ("40001", Retry, Cause.CONTENTION),
    ("40P01", Retry, Cause.CONTENTION),
    ("55P03", Retry, Cause.BLOCKED),
    ("08006", Retry, Cause.AWAY),
    ("25006", Retry, Cause.AWAY),
    ("25P03", Retry, Cause.AWAY),
    ("25P04", Retry, Cause.AWAY),
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


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (KafkaError._ALL_BROKERS_DOWN, Retry),  # noqa: SLF001 - public constants of the client
        (KafkaError._TRANSPORT, Retry),  # noqa: SLF001 - same
        (KafkaError._AUTHENTICATION, Retry),  # noqa: SLF001 - same
        (KafkaError._MAX_POLL_EXCEEDED, Retry),  # noqa: SLF001 - same
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Retry),
        (KafkaError.NOT_LEADER_FOR_PARTITION, Retry),
        (KafkaError.REBALANCE_IN_PROGRESS, Retry),
        (KafkaError.OFFSET_OUT_OF_RANGE, Retry),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Halt),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, Halt),
        (KafkaError.UNSUPPORTED_VERSION, Halt),
        (KafkaError.FENCED_INSTANCE_ID, Halt),
        (KafkaError.UNRELEASED_INSTANCE_ID, Halt),
    ],
)
def test_verdict_by_kafka_error(code: int, verdict: type[Exception]) -> None:
    """What waiting may mend is tried again; rights, versions and a doubled name are not."""
    found = verdict_of_kafka(KafkaError(code, "the broker said so"))
    assert type(found) is verdict
    assert getattr(found, "cause", Cause.KAFKA) == Cause.KAFKA
    assert "the broker said so" in str(found)


@pytest.mark.parametrize(("code", "flag"), [(KafkaError._FATAL, False), (KafkaError._FAIL, True)])  # noqa: SLF001 - public constants of the client
def test_a_client_that_gave_up_halts(code: int, flag: bool) -> None:  # noqa: FBT001 - a table
    """A fatal error is final for this client, by its flag or, in a message, by its code alone."""
    assert isinstance(verdict_of_kafka(KafkaError(code, "x", flag)), Halt)


@pytest.mark.parametrize(
    ("code", "gap"),
    [
        (KafkaError._AUTO_OFFSET_RESET, True),  # noqa: SLF001 - public constants of the client
        (KafkaError._LOG_TRUNCATION, True),  # noqa: SLF001 - same
        (KafkaError.OFFSET_OUT_OF_RANGE, True),
        (KafkaError._TRANSPORT, False),  # noqa: SLF001 - same
    ],
)
def test_what_is_a_gap(code: int, gap: bool) -> None:  # noqa: FBT001 - a table
    """Only what says that records are not in the log."""
    assert is_gap(KafkaError(code)) is gap
