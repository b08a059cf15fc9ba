"""What is looked at, and what is found: the words that all checks share; no I/O."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from redis import Redis
from sqlalchemy import Engine

from ops.invariants.event_log import EventLog
from ops.simulator.truth import CustomerTruth
from schemas.plans import Plans
from schemas.redis_keys import LOCK_SECONDS

T = TypeVar("T")

REST_SECONDS = LOCK_SECONDS + 5.0
"""Longest wait for rest: the lock of a process that died is gone by then."""

PATIENCE_SECONDS = 5.0
"""So long a difference must last that a process at work makes and takes back."""

ROWS_AT_ONCE = 2_000


class Finding(NamedTuple):
    """Something that is not as it must be: of which invariant, whose or where, and what."""

    invariant: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.where}: {self.what}"


class NotChecked(Exception):  # noqa: N818 - named by what it says
    """What this check needs is not there; the text says what."""


class Sent(NamedTuple):
    """An accepted event: whose it is, and Stripe's `created` where it is known."""

    customer: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A process of hookline's: where its admin port is, and its pid where it runs here."""

    url: str
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A deployment, and what is known of it otherwise; a check without its part is left out."""

    engine: Engine
    plans: Plans
    grace: timedelta
    group: str
    log: EventLog | None = None
    records: int | None = 0
    """How many of the last applied records I1 reads in the log; None: all, 0: none."""
    redis: "Redis | None" = None
    customers: Sequence[str] | None = None
    """Only these customers' rows, entries and dead letters; None: everybody's."""
    accepted: Mapping[str, Sent] | None = None
    """The events that ingest answered 200 `accepted`, by their ids."""
    truths: Sequence[CustomerTruth] | None = None
    letters_expected: bool = False
    """Whether known customers may have dead letters, which then excuse them from I4."""
    gatekeeper: tuple[str, str | None] | None = None
    """URL and token: I4 asks for the known customers there too."""
    processes: Mapping[str, Process] = field(default_factory=dict)
    baseline: Mapping[str, float] | None = None
    """What `take_sample` returned before the harm."""
    statuses: Mapping[int, int] | None = None
    """How often ingest answered with each status."""
    excused: Collection[int] = ()
    """Statuses from 500 on that are right, as a dependency was down."""
    outputs: Sequence[Path] = ()
    """Files that may hold no secret."""
    secrets: Sequence[str] = field(default=(), repr=False)
    rest_seconds: float = REST_SECONDS
    patience_seconds: float = PATIENCE_SECONDS


Looking = Generator[Finding, None, str]
"""Yields findings, and returns what was looked at; raises NotChecked."""

Check = Callable[[Subject], Looking]


def chunks(values: Iterable[T], size: int = ROWS_AT_ONCE) -> Iterator[list[T]]:
    """Cut into lists of at most that many."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
