"""`hookline backfill`: merge what Stripe says of everybody, page by page, and say what came."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from consumer.fetched import Fetched
from consumer.learn import Learned, Learner, preview
from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from consumer.storage.stripe_tasks import Cursor, Task, end, load, save
from ops.applying import open_batch
from ops.backfill.sources import read_api, read_files
from ops.counting import count
from ops.stripe_api.client import open_api
from ops.stripe_api.failures import Failures
from ops.stripe_api.one_at_a_time import Turn, take_turn
from ops.stripe_api.reading import Part, Phase, Reader
from ops.usage import UsageError
from schemas.plans import load_plans
from schemas.settings import BackfillSettings

EXIT_LEFT_OUT = 3

Apply = Callable[[Sequence[Fetched]], Learned]


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked for; times in Unix seconds."""

    api: bool
    paths: tuple[Path, ...]
    since: int | None
    taken: int | None
    dry_run: bool


@dataclass(slots=True)
class Tally:
    """What a run has seen and done."""

    seen: Counter[str] = field(default_factory=Counter)
    added: int = 0
    changed: int = 0
    linked: set[str] = field(default_factory=set)
    skipped: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, part: Part, learned: Learned) -> None:
        """Count one part."""
        self.seen[part.name] += len(part.fetched) + len(part.unreadable)
        self.skipped += part.skipped
        self.left_out |= {**part.unreadable, **learned.refused}
        for entry in (entry for changes in learned.changes for entry in changes.audit):
            if entry["action"] == "reference_linked":
                self.linked.add(entry["customer_id"])
            elif entry["before"] == "{}":
                self.added += 1
            else:
                self.changed += 1

    def summary(self, *, dry_run: bool) -> Iterator[str]:
        """Yield what a person should know at the end, a sentence a line."""
        read = ", ".join(f"{number:,} {name}" for name, number in self.seen.items())
        yield f"read: {read or 'nothing'}"
        would = "would be " if dry_run else ""
        yield (
            f"{count(self.added, 'subscription')} {would}added, {self.changed:,} {would}changed, "
            f"{count(len(self.linked), 'customer')} {would}linked to a reference"
        )
        if self.skipped:
            yield f"{count(self.skipped, 'object')} of other kinds, or of no customer, left alone"
        for name, why in self.left_out.items():
            yield f"{name} was left out: {why}"


def run(settings: BackfillSettings, options: Options) -> int:
    """Backfill from Stripe's API or from files, and return the exit code; blocks.

    0: all was merged; 3: something was left out, and is named. Killed in between, the same
    command goes on; repeated, it changes nothing. Raises UsageError, StripeError, PlansError,
    Retry, Halt or sqlalchemy's DBAPIError.
    """
    _check(options)
    engine = make_engine(settings, "backfill")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    tally = Tally()
    with (
        take_turn(engine, Turn.BACKFILL) as is_ours,
        _open_source(settings, options, engine, console) as parts,
        _open_apply(settings, engine, dry_run=options.dry_run) as apply,
        _bar(console) as show,
    ):
        if not is_ours:
            raise UsageError("another backfill runs on this database: let it come to its end")
        for part in parts:
            tally.add(part, apply(part.fetched))
            if not options.dry_run:
                save(engine, Task.BACKFILL, _cursor(options, part))
            show(tally)
    if not options.dry_run:
        end(engine, Task.BACKFILL, whole=options.since is None)
    for line in tally.summary(dry_run=options.dry_run):
        console.print(line)
    if options.dry_run:
        console.print("nothing was written; without --dry-run it is")
    return EXIT_LEFT_OUT if tally.left_out else 0


def _check(options: Options) -> None:
    if options.api == bool(options.paths):
        raise UsageError("say where to read: --api, or FILE…, one of these")
    if options.paths and options.taken is None:
        raise UsageError(
            "--taken is missing: when the export was begun, ISO 8601; what has changed since then "
            "is not in the files"
        )
    if options.paths and options.since is not None:
        raise UsageError("--since is for --api: a file is read whole")


@contextmanager
def _open_source(
    settings: BackfillSettings, options: Options, engine: Engine, console: Console
) -> Iterator[Iterator[Part]]:
    if not options.api:
        assert options.taken is not None  # noqa: S101 - was checked, for the type checker
        yield read_files(options.paths, Reader(settings.livemode, Failures(None)), options.taken)
        return
    api = open_api(settings)
    try:
        phase, after = _resume(engine, options, console)
        reader = Reader(settings.livemode, Failures(api))
        yield read_api(api, reader, options.since, phase, after)
    finally:
        api.close()


def _resume(engine: Engine, options: Options, console: Console) -> tuple[Phase, str | None]:
    """Return where a run that did not come to its end goes on; one of other options begins."""
    with snapshot(engine) as connection:
        standing = load(connection, Task.BACKFILL)
    cursor: Cursor = standing.cursor if standing is not None else {}
    if options.dry_run or not cursor or cursor.get("since") != options.since:
        return Phase.CUSTOMERS, None
    phase, after = cursor.get("phase"), cursor.get("after")
    if phase not in set(Phase):
        return Phase.CUSTOMERS, None
    console.print(f"going on with {phase} behind {after}, where the last run ended")
    return Phase(phase), after


def _cursor(options: Options, part: Part) -> Cursor:
    if not options.api:
        return {"file": part.name}
    return {"phase": part.name, "after": part.after, "since": options.since}


@contextmanager
def _open_apply(settings: BackfillSettings, engine: Engine, *, dry_run: bool) -> Iterator[Apply]:
    if dry_run:
        plans = load_plans(settings.plans_file)
        grace = timedelta(hours=settings.grace_hours)

        def look(fetched: Sequence[Fetched]) -> Learned:
            with snapshot(engine) as connection:
                return Learned((preview(connection, fetched, plans, grace),))

        yield look
        return
    with open_batch(settings, engine) as applying:
        learner = Learner(applying.ledger, applying.batch)
        yield lambda fetched: learner.learn(fetched, is_backfill=True)


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Tally], None]]:
    """Show what was read so far, on a terminal only: Stripe does not say how much there is."""
    shown = console if console.is_terminal else Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def show(tally: Tally) -> None:
            read = ", ".join(f"{number:,} {name}" for name, number in tally.seen.items())
            bar.update(task, description=f"reading: {read}")

        yield show


def read_time(text: str | None, option: str) -> int | None:
    """Read a moment that an option names, ISO 8601, UTC without a zone; raises UsageError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: say a time like 2026-11-24T10:00:00Z") from None
    seconds = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    if seconds > datetime.now(UTC).timestamp():
        raise UsageError(f"{option} {text}: lies in the future")
    return seconds
