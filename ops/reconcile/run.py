"""`hookline reconcile`: what Stripe lists and nobody recorded, told, and sent if asked."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import stamina
from rich.console import Console
from sqlalchemy import Engine

from consumer.errors import Retry
from consumer.kafka import Cluster
from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from consumer.storage.positions import load_all
from consumer.storage.stripe_tasks import Task, end, load
from ops.counting import count
from ops.reconcile.finding import SETTLED_SECONDS, Missing, Search
from ops.reconcile.sending import Sender
from ops.stripe_api.client import REACH_SECONDS, StripeApi, open_api
from ops.stripe_api.one_at_a_time import Turn, take_turn
from ops.usage import UsageError
from schemas.settings import ReconcileSettings

OVERLAP_SECONDS = 3600
"""So far before its last end a run begins again: for what Stripe may have listed late."""

LOOK_SECONDS = 0.5
ATTEMPTS = 10
ATTEMPT_SECONDS = 20.0


class BehindError(Exception):
    """Consumers have records to apply: what is in those would look as if it had never come."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked for; times in Unix seconds."""

    since: int | None = None
    yes: bool = False
    wait_seconds: float = 60.0


@dataclass(slots=True)
class Tally:
    """What a run has found and sent."""

    since: int
    until: int
    listed: int = 0
    of_other_types: int = 0
    types: Counter[str] = field(default_factory=Counter)
    customers: set[str] = field(default_factory=set)
    oldest: int | None = None
    sent: int = 0

    @property
    def missing(self) -> int:
        """How many events were not recorded."""
        return self.types.total()

    def add(self, found: list[Missing]) -> None:
        """Count what is missing of one page."""
        for one in found:
            self.types[one.route.type] += 1
            self.customers.add(one.route.key)
            self.oldest = min(one.created, self.oldest or one.created)

    def summary(self) -> Iterator[str]:
        """Yield what a person should know at the end, a sentence a line."""
        span = f"{say_moment(self.since)} to {say_moment(self.until)}"
        listed = f"{count(self.listed, 'event')} listed by Stripe, {span}"
        if not self.missing:
            yield f"{listed}: all recorded"
        else:
            whose = count(len(self.customers), "customer")
            yield f"{listed}: {self.missing:,} NOT RECORDED, of {whose}"
            for kind, number in self.types.most_common():
                yield f"    {number:>7,}  {kind}"
            yield f"the oldest is of {say_moment(self.oldest or 0)}"
        if self.of_other_types:
            yield (
                f"{self.of_other_types:,} of types that say nothing of a subscription, and that "
                "the endpoint does not send, were left out"
            )


def run(settings: ReconcileSettings, options: Options) -> int:
    """Find what is not recorded, send it if asked, say what came; return the exit code; blocks.

    0: nothing is missing, all was sent, or it was a dry run. Raises UsageError, BehindError,
    StripeError, Retry or sqlalchemy's DBAPIError.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    engine = make_engine(settings, "reconcile")
    with take_turn(engine, Turn.RECONCILE) as is_ours:
        if not is_ours:
            raise UsageError("another process reconciles now: try again when it has ended")
        tally = reconcile(settings, options, engine)
    for line in tally.summary():
        console.print(line)
    if tally.sent:
        console.print(f"sent: {tally.sent:,}; consumers apply them like any other")
    elif tally.missing:
        console.print("nothing was sent; --yes does it")
    return 0


def reconcile(settings: ReconcileSettings, options: Options, engine: Engine) -> Tally:
    """Find what is not recorded, and send it if asked; whoever calls has taken the turn."""
    api = open_api(settings)
    try:
        wait_for_consumers(engine, settings, options.wait_seconds)
        since, until = _window(engine, api, options.since)
        search = Search(engine, api, settings.livemode == "live", since, until)
        tally = Tally(since, until)
        sender: Sender | None = None
        for found in search.pages():
            tally.add(found)
            if found and options.yes:
                sender = sender or Sender(settings)
                sender.send(found)
                tally.sent += len(found)
    finally:
        api.close()
    tally.listed, tally.of_other_types = search.listed, search.of_other_types
    if options.yes or not tally.missing:
        _note(engine, tally)
    return tally


def wait_for_consumers(engine: Engine, settings: ReconcileSettings, seconds: float) -> None:
    """Return when all is applied that stands in Kafka now; raises BehindError after so long."""
    ends = _patiently(_find_ends, Cluster(settings))
    deadline = time.monotonic() + seconds
    while waiting := _behind(engine, settings, ends):
        if time.monotonic() > deadline:
            raise BehindError(
                f"consumers have {count(waiting, 'record')} to apply, whose events would look as "
                "if they had never come: reconcile when they have caught up"
            )
        time.sleep(LOOK_SECONDS)


def _find_ends(cluster: Cluster) -> dict[int, int]:
    """Return the ends of the logs that hold a record."""
    ranges = cluster.log_ranges(cluster.partitions())
    return {p: end for p, (low, end) in ranges.items() if end > low}


# A partition whose leader changes has one again within seconds.
_patiently = stamina.RetryingCaller(attempts=ATTEMPTS, timeout=ATTEMPT_SECONDS).on(Retry)


def _behind(engine: Engine, settings: ReconcileSettings, ends: dict[int, int]) -> int:
    with snapshot(engine) as connection:
        positions = load_all(connection, settings.kafka_group, settings.kafka_topic)
    reached = {p: position.next_offset for p, position in positions.items()}
    return sum(max(end - reached.get(p, 0), 0) for p, end in ends.items())


def _window(engine: Engine, api: StripeApi, since: int | None) -> tuple[int, int]:
    """Return from which second to which to look, by Stripe's clock."""
    now = api.now()
    first = now - REACH_SECONDS
    if since is None:
        with snapshot(engine) as connection:
            standing = load(connection, Task.RECONCILE)
        known = standing.cursor.get("until") if standing is not None else None
        since = known - OVERLAP_SECONDS if isinstance(known, int) else first
    return max(since, first), now - SETTLED_SECONDS


def _note(engine: Engine, tally: Tally) -> None:
    """Remember how far the list is reconciled, unless a stretch before it was left out."""
    with snapshot(engine) as connection:
        standing = load(connection, Task.RECONCILE)
    known = standing.cursor.get("until") if standing is not None else None
    first = tally.until + SETTLED_SECONDS - REACH_SECONDS
    is_whole = tally.since <= max(first, known if isinstance(known, int) else 0)
    if is_whole:
        end(engine, Task.RECONCILE, whole=True, cursor={"until": tally.until})


def say_moment(seconds: int) -> str:
    """Return a moment to the minute, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
