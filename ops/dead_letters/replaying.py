"""`hookline dead-letters replay`: says what it would do, does it if told to, says what came."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress, TaskID
from sqlalchemy import Engine

from consumer.errors import Retry
from consumer.origins import Replayed
from consumer.replay import Replayer
from consumer.storage.dead_letters import Reason
from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from consumer.storage.stored_letters import OpenLetter, find_known, find_open
from ops.applying import open_batch
from ops.counting import count
from ops.dead_letters.words import by_reason, explain, read_reason, visible
from ops.usage import UsageError
from schemas.settings import ReplaySettings

EXIT_AWAY = 1
EXIT_FAILED_AGAIN = 3
EXIT_INTERRUPTED = 130


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    resolved: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    last_error: dict[str, str] = field(default_factory=dict)

    def add(self, done: Replayed) -> None:
        """Count one part."""
        self.resolved += len(done.resolved)
        for letter in done.failed.values():
            self.failed[letter.reason.value] += 1
            self.last_error[letter.reason.value] = letter.error

    def summary(self) -> Iterator[str]:
        """Yield what a person should know at the end, a sentence a line."""
        yield f"{count(self.resolved, 'dead letter')} resolved" + (
            f"; failed again and still open: {by_reason(self.failed)}" if self.failed else ""
        )
        for reason in sorted(self.failed):
            yield f"{reason}: {explain(reason)}"
            yield f"  the last error: {visible(self.last_error[reason])}"


def run(
    settings: ReplaySettings,
    *,
    numbers: Sequence[int],
    reason: str | None,
    everything: bool,
    yes: bool,
) -> int:
    """Replay dead letters in parts, or say what would be replayed; return the exit code.

    Blocks. 0: all of them are resolved; 3: some failed again; 1: PostgreSQL did not answer.
    Raises UsageError, PlansError, Halt or sqlalchemy's DBAPIError.
    """
    wanted = read_reason(reason)
    if sum((bool(numbers), wanted is not None, everything)) != 1:
        raise UsageError("say which: ID…, --reason REASON or --all, one of these")
    engine = make_engine(settings, "replay")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    chosen = _choose(engine, numbers, wanted)
    for line in _announce(chosen, numbers):
        console.print(line)
    if not chosen:
        return 0
    if not yes:
        if any(letter.reason == Reason.UNSIGNED for letter in chosen):
            console.print(f"unsigned: {explain(Reason.UNSIGNED)}")
        console.print("Nothing was replayed; --yes does it.")
        return 0
    return _replay(settings, engine, console, [letter.dead_letter_id for letter in chosen])


def _choose(engine: Engine, numbers: Sequence[int], reason: Reason | None) -> list[OpenLetter]:
    with snapshot(engine) as connection:
        if missing := sorted(set(numbers) - find_known(connection, numbers)):
            names = ", ".join(map(str, missing))
            raise UsageError(f"there is no dead letter {names}: `hookline dead-letters list`")
        return find_open(connection, reason, sorted(set(numbers)) or None)


def _announce(chosen: Sequence[OpenLetter], numbers: Sequence[int]) -> Iterator[str]:
    """Yield what is about to be replayed."""
    if done := sorted(set(numbers) - {letter.dead_letter_id for letter in chosen}):
        yield f"Resolved already: {', '.join(map(str, done))}."
    if not chosen:
        yield "Nothing is left to replay."
        return
    reasons = Counter(letter.reason for letter in chosen)
    customers = {letter.customer_id for letter in chosen if letter.customer_id}
    whose = f" of {count(len(customers), 'customer')}" if customers else ""
    yield f"{count(len(chosen), 'dead letter')}{whose}: {by_reason(reasons)}."


def _replay(
    settings: ReplaySettings, engine: Engine, console: Console, numbers: Sequence[int]
) -> int:
    tally = Tally()
    code = 0
    try:
        with (
            build_replayer(settings, engine) as replayer,
            _bar(console, len(numbers)) as (bar, task),
        ):
            for done in replayer.run(numbers):
                tally.add(done)
                bar.update(task, completed=tally.resolved + tally.failed.total())
    except KeyboardInterrupt:
        console.print("Interrupted: what follows was done, the rest is open as before.")
        code = EXIT_INTERRUPTED
    except Retry as retry:
        console.print(
            f"PostgreSQL did not take it for a minute ({retry}): what follows was done, the rest "
            "is open as before; replay again."
        )
        code = EXIT_AWAY
    for line in tally.summary():
        console.print(line)
    return code or (EXIT_FAILED_AGAIN if tally.failed else 0)


@contextmanager
def build_replayer(settings: ReplaySettings, engine: Engine) -> Iterator[Replayer]:
    """Build what a consumer has, but for Kafka; close it at the end."""
    with open_batch(settings, engine, settings.record_secrets()) as applying:
        yield Replayer(engine, applying.ledger, applying.batch)


@contextmanager
def _bar(console: Console, total: int) -> Iterator[tuple[Progress, TaskID]]:
    shown = console if console.is_terminal else Console(stderr=True)
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as bar:
        yield bar, bar.add_task("replaying", total=total)
