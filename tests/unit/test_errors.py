"""Each class of database error gets the verdict that neither loses nor blocks."""

import psycopg
import pytest
from confluent_kafka import KafkaError
from psycopg import errors

from consumer.errors import Cause, Halt, Reject, Retry, is_gap, verdict_of, verdict_of_kafka
from schemas.access import why_kafka_refuses

CASES = [
    # What section "What can go wrong with a batch" of the design names.
    ("22001", Reject, None, "a value too long: the data's fault"),
    ("22P05", Reject, None, "a character that the encoding lacks: the same"),
    ("23505", Reject, None, "a constraint says no to a row: the same"),
    ("23514", Reject, None, "a check of the operator's own: the same"),
    ("40001", Retry, Cause.CONTENTION, "another transaction went first"),
    ("40P01", Retry, Cause.CONTENTION, "a deadlock had to have a victim"),
    ("55P03", Retry, Cause.BLOCKED, "somebody holds a row for longer than we wait"),
    ("08000", Retry, Cause.AWAY, "no connection"),
    ("08006", Retry, Cause.AWAY, "the connection failed: a COMMIT may be in doubt"),
    ("08007", Retry, Cause.AWAY, "the server says itself that it is in doubt"),
    ("08P01", Retry, Cause.AWAY, "a pool that has no connection left says it so"),
    ("53000", Retry, Cause.AWAY, "short of something"),
    ("53100", Retry, Cause.AWAY, "disk full"),
    ("53200", Retry, Cause.AWAY, "out of memory"),
    ("53300", Retry, Cause.AWAY, "too many connections"),
    ("53400", Retry, Cause.AWAY, "a limit of the configuration"),
    ("57014", Retry, Cause.AWAY, "the statement took longer than its limit"),
    ("57P01", Retry, Cause.AWAY, "an administrator ended us"),
    ("57P02", Retry, Cause.AWAY, "another backend crashed"),
    ("57P03", Retry, Cause.AWAY, "starting up, or recovering"),
    ("57P05", Retry, Cause.AWAY, "idle for too long"),
    ("25006", Retry, Cause.AWAY, "a standby, or an old primary: takes no writes"),
    ("42000", Halt, None, "what we say is not understood: another schema, or no rights"),
    ("42501", Halt, None, "no rights"),
    ("42703", Halt, None, "no such column"),
    ("42P01", Halt, None, "no such table"),
    # Every further class of PostgreSQL's appendix A.
    ("01000", Halt, None, "a warning is no error; whoever raises one means to stop us"),
    ("02000", Halt, None, "no data: likewise"),
    ("03000", Halt, None, "the statement is not complete: our own fault"),
    ("09000", Halt, None, "an operator's trigger fails"),
    ("0A000", Retry, Cause.AWAY, "a plan from before a migration: a new connection has none"),
    ("0B000", Halt, None, "a transaction begun twice: our own fault"),
    ("0F000", Halt, None, "large objects: we use none"),
    ("0L000", Halt, None, "grants: we give none"),
    ("0P000", Halt, None, "the role is not one"),
    ("0Z000", Halt, None, "diagnostics inside an operator's function"),
    ("10608", Halt, None, "XQuery: we use none"),
    ("20000", Halt, None, "CASE inside an operator's function"),
    ("21000", Halt, None, "one statement hits a row twice: our own fault"),
    ("24000", Halt, None, "cursors: we use none"),
    ("25000", Halt, None, "a transaction in a state it cannot be in: our own fault"),
    ("25P02", Halt, None, "going on after an error: our own fault"),
    ("25P03", Retry, Cause.AWAY, "stopped for too long inside a transaction"),
    ("25P04", Retry, Cause.AWAY, "the same, by another limit"),
    ("26000", Halt, None, "no such prepared statement: a pool that mixes connections"),
    ("27000", Halt, None, "an operator's trigger changes the row that is being changed"),
    ("28000", Retry, Cause.AWAY, "not let in: rights may follow while we wait"),
    ("28P01", Retry, Cause.AWAY, "a password that is being rotated"),
    ("2B000", Halt, None, "dropping what others need: we drop nothing"),
    ("2D000", Halt, None, "COMMIT in a function"),
    ("2F000", Halt, None, "SQL inside an operator's function"),
    ("34000", Halt, None, "cursors: we use none"),
    ("38000", Halt, None, "an operator's function outside SQL fails"),
    ("39000", Halt, None, "likewise"),
    ("3B000", Halt, None, "savepoints: we use none"),
    ("3D000", Retry, Cause.AWAY, "the database is being restored under its name"),
    ("3F000", Halt, None, "no such schema"),
    ("40000", Retry, Cause.CONTENTION, "rolled back, whatever for"),
    ("40002", Retry, Cause.CONTENTION, "likewise"),
    ("40003", Retry, Cause.CONTENTION, "in doubt: the position tells on the next try"),
    ("44000", Halt, None, "a view with check option in place of a table"),
    ("54000", Reject, None, "too large for an index or a row: the data's fault"),
    ("54001", Reject, None, "nested too deeply: the same"),
    ("55000", Halt, None, "an object is not in the state that the statement needs"),
    ("55006", Halt, None, "likewise"),
    ("58000", Retry, Cause.AWAY, "the system below PostgreSQL fails"),
    ("58030", Retry, Cause.AWAY, "reading or writing a file fails"),
    ("F0000", Halt, None, "the configuration file"),
    ("HV000", Halt, None, "a foreign table in place of ours"),
    ("P0001", Halt, None, "an operator's trigger says no to everything"),
    ("XX000", Retry, Cause.AWAY, "PostgreSQL's own fault: not the data's"),
    ("XX001", Retry, Cause.AWAY, "damaged data: a fail-over mends it"),
    ("72000", Retry, Cause.CONTENTION, "a snapshot grew too old, up to PostgreSQL 16"),
    ("99999", Halt, None, "what nobody knows must not eat a topic"),
]
"""SQLSTATE, what it means for the loop, and why."""


class StatedError(psycopg.Error):
    """A database error of any state."""

    def __init__(self, state: str) -> None:
        super().__init__("first line\nsecond line with a row's data")
        self.sqlstate = state


@pytest.mark.parametrize(("state", "verdict", "cause", "why"), CASES)
def test_verdict_by_sqlstate(
    state: str, verdict: type[Exception], cause: Cause | None, why: str
) -> None:
    """A SQLSTATE decides what the loop does, and no row leaks into the message."""
    found = verdict_of(StatedError(state))
    assert type(found) is verdict, why
    assert getattr(found, "cause", None) == cause, why
    assert "second line" not in str(found)


def test_every_class_that_the_driver_knows_stands_in_the_table() -> None:
    """A class that a new PostgreSQL brings gets its verdict by thought, not by chance."""
    states = (getattr(found, "sqlstate", None) for found in vars(errors).values())
    known = {state[:2] for state in states if isinstance(state, str)}
    assert known <= {case[0][:2] for case in CASES}


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
    assert (why_kafka_refuses(KafkaError(code).name()) or "the broker said so") in str(found)


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
