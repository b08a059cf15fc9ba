"""Three verdicts on what went wrong with a batch: Retry, Reject, Halt.

An exception here is named by what the loop must do. `verdict_of` sorts every error of the
database into one of them, `verdict_of_kafka` every error of the brokers. What PostgreSQL says
that nobody knows halts, for a surprise must not eat a topic; Kafka's surprises only cost time.
Redis gets no verdict: it answers, or "don't know" (consumer/storage/bounded_redis.py).
"""

from enum import StrEnum

import psycopg
from confluent_kafka import KafkaError
from sqlalchemy.exc import DBAPIError

from schemas.access import why_kafka_refuses, why_postgres_refuses


class Cause(StrEnum):
    """Why a batch is tried again; a label of the metric for batches."""

    CONTENTION = "contention"
    """Somebody else held a row: the same batch, soon."""
    BLOCKED = "blocked"
    """Somebody held a row for longer than the lock timeout: the same batch, soon."""
    AWAY = "away"
    """No database, or not one that takes writes: pause, stay in the group, come back."""
    KAFKA = "kafka"
    """No broker answered: the same later."""
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


_BLOCKED = "55P03"
# 25P03 and 25P04 end the session of a process that was stopped in its transaction: it goes on.
_AWAY = frozenset({"25006", "25P03", "25P04", "0A000", "57014"})
# Class 40: PostgreSQL rolled the transaction back, or says that it is in doubt.
_CONTENTION_CLASSES = frozenset({"40", "72"})
_AWAY_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58", "XX"})
# Class 54: too large or too deep for a limit; halting would let one event stop the topic.
_DATA_CLASSES = frozenset({"22", "23", "54"})


def verdict_of(error: DBAPIError | psycopg.Error) -> Retry | Reject | Halt:
    """Sort a database error by SQLSTATE (PostgreSQL, appendix A); never raises.

    Without a SQLSTATE the connection is gone: Retry, as the outcome may be in doubt.
    """
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    detail = _first_line(origin)
    if state is None:
        if isinstance(origin, psycopg.OperationalError | psycopg.InterfaceError):
            return Retry(Cause.AWAY, why_postgres_refuses(str(origin)) or detail)
        # psycopg itself refused a value before it was sent, such as a NUL in a text.
        return Reject(detail)
    if state == _BLOCKED or state[:2] in _CONTENTION_CLASSES:
        return Retry(Cause.BLOCKED if state == _BLOCKED else Cause.CONTENTION, detail)
    if state in _AWAY or state[:2] in _AWAY_CLASSES:
        return Retry(Cause.AWAY, detail)
    if state[:2] in _DATA_CLASSES:
        return Reject(detail)
    return Halt(
        f"PostgreSQL refuses what this version writes ({state}: {detail}): "
        "run `hookline migrate` with the same version and check the rights of the role"
    )


_NO_RIGHTS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_TOO_OLD = frozenset(
    {
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001 - public constants of the client
        KafkaError.UNSUPPORTED_ASSIGNOR,
    }
)
_SAME_NAME = frozenset({KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID})
_GAP = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - same
        KafkaError._LOG_TRUNCATION,  # noqa: SLF001 - same
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)


def verdict_of_kafka(error: KafkaError, kafka: str = "Kafka") -> Retry | Halt:
    """Sort an error of Kafka or of its client; never raises. `kafka` may name the brokers.

    Halt for what no waiting mends: rights, a broker too old, a name that two processes bear, a
    client that gave up. All else is Retry, a wrong password too: it may be put right while we wait.
    """
    code, detail = error.code(), error.str()
    if code in _NO_RIGHTS:
        return Halt(f"Kafka refuses this user: {detail}; grant it the topic and the group")
    if code in _TOO_OLD:
        return Halt(
            f"Kafka refuses the group protocol: {detail}; brokers before 4.0 need "
            "HOOKLINE_KAFKA_GROUP_PROTOCOL=classic"
        )
    if code in _SAME_NAME:
        return Halt(
            f"Kafka knows another process by this HOOKLINE_KAFKA_GROUP_INSTANCE_ID: {detail}; "
            "give each a name of its own; after a kill, wait for the session to time out"
        )
    if error.fatal() or code == KafkaError._FATAL:  # noqa: SLF001 - what a message bears
        return Halt(
            f"Kafka's client gave up: {detail}; start the process again (a static member that "
            "was killed: once its session has timed out)"
        )
    return Retry(Cause.KAFKA, why_kafka_refuses(error.name()) or f"{kafka}: {detail}")


NOT_REACHABLE = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - same
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - same
        KafkaError._RESOLVE,  # noqa: SLF001 - same
        KafkaError._SSL,  # noqa: SLF001 - same
    }
)
"""No broker lets us in; the client keeps trying, and readiness says so meanwhile."""


def is_gap(error: KafkaError) -> bool:
    """Tell whether the records from our position on are not in the log: never reset in silence."""
    return error.code() in _GAP


def _first_line(error: BaseException | None) -> str:
    """Cut an error to its first line: the ones after it may quote a row."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
