"""`hookline verify`: how the rows differ from Stripe, why, and what puts them right."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from consumer.learn import Learner
from consumer.repair import Repair
from consumer.storage.engine import make_engine
from consumer.storage.stripe_tasks import Task, end
from ops.applying import open_batch
from ops.counting import count
from ops.recompute import say_value
from ops.stripe_api.client import open_api
from ops.stripe_api.failures import Failures
from ops.stripe_api.reading import Reader
from ops.usage import UsageError
from ops.verify.comparing import Difference, Field
from ops.verify.looking import Verifier
from ops.verify.mending import Mender
from schemas.plans import load_plans
from schemas.settings import BackfillSettings

EXIT_DIFFERENT = 3
SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked for; without a sample and not full: a sample of a hundred."""

    sample: int | None = None
    full: bool = False
    repair: bool = False
    as_json: bool = False
    wait_seconds: float = 30.0


@dataclass(slots=True)
class Outcome:
    """What was looked at, what differs, and what of it stays so."""

    compared: int = 0
    found: list[Difference] = field(default_factory=list)
    mended: set[str] = field(default_factory=set)

    @property
    def left(self) -> int:
        """How many differ still."""
        return len(self.found) - len(self.mended)

    def summary(self, *, repair: bool) -> Iterator[str]:
        """Yield what a person should know at the end, a sentence a line."""
        kinds = Counter(one.kind.value for one in self.found)
        told = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        verdict = f"{len(self.found):,} as they are not at Stripe: {told}"
        same = "all as Stripe has them"
        yield f"{count(self.compared, 'subscription')} compared: {verdict if self.found else same}"
        if self.found and repair:
            left = f"; {self.left:,} cannot be mended so" if self.left else ""
            yield f"mended: {len(self.mended):,}{left}"
        elif self.found:
            yield "nothing was written; --repair merges what Stripe shows"


def run(settings: BackfillSettings, options: Options) -> int:
    """Compare subscriptions with Stripe, print each difference, return the exit code; blocks.

    0: nothing differs, or all of it was mended; 3: something differs. Raises UsageError,
    StripeError, PlansError, Retry, Halt or sqlalchemy's DBAPIError.
    """
    if options.full and options.sample is not None:
        raise UsageError("say --sample N or --full, one of these")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with _bar(console) as show:
        outcome = verify(settings, options, make_engine(settings, "verify"), show)
    if options.as_json:
        print(json.dumps(to_document(outcome), indent=2))  # noqa: T201 - the document asked for
    else:
        for line in describe(outcome.found):
            console.print(line)
        for line in outcome.summary(repair=options.repair):
            console.print(line)
    return EXIT_DIFFERENT if outcome.left else 0


def verify(
    settings: BackfillSettings,
    options: Options,
    engine: Engine,
    show: Callable[[int], None] = lambda _compared: None,
) -> Outcome:
    """Compare, and mend if asked; raises as run does."""
    api = open_api(settings)
    plans, grace = load_plans(settings.plans_file), timedelta(hours=settings.grace_hours)
    verifier = Verifier(engine, api, Reader(settings.livemode, Failures(api)), plans, grace)
    outcome = Outcome()
    try:
        looking = (
            verifier.compare_all()
            if options.full
            else verifier.compare_some(options.sample or SAMPLE)
        )
        first = list(_count(looking, outcome, show))
        outcome.found = list(verifier.look_again(first, options.wait_seconds))
    finally:
        api.close()
    if options.repair and outcome.found:
        with open_batch(settings, engine) as applying:
            mender = Mender(Repair(engine, plans, grace), Learner(applying.ledger, applying.batch))
            for one in mender.mend(outcome.found):
                if one.fetched is not None and not verifier.differs(one.fetched):
                    outcome.mended.add(one.subscription_id)
    end(engine, Task.VERIFY, whole=options.full)
    return outcome


def _count(
    looking: Iterable[Difference | None], outcome: Outcome, show: Callable[[int], None]
) -> Iterator[Difference]:
    for one in looking:
        outcome.compared += 1
        show(outcome.compared)
        if one is not None:
            yield one


def describe(found: Sequence[Difference]) -> Iterator[str]:
    """Yield the lines that tell of each difference."""
    for one in found:
        yield f"{one.subscription_id} of {one.customer_id or 'nobody'}: {one.sentence}"
        for each in one.fields:
            yield f"    {each.name:<21} {say_value(each.stored)} -> {say_value(each.stripe)}"


def to_document(outcome: Outcome) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "compared": outcome.compared,
        "differences": [
            {
                "subscription": one.subscription_id,
                "customer": one.customer_id or None,
                "kind": one.kind.value,
                "sentence": one.sentence,
                "fields": {each.name: _pair(each) for each in one.fields},
                "mended": one.subscription_id in outcome.mended,
            }
            for one in outcome.found
        ],
    }


def _pair(one: Field) -> dict[str, Any]:
    return {"stored": say_value(one.stored), "stripe": say_value(one.stripe)}


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[int], None]]:
    shown = console if console.is_terminal else Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("comparing", total=None)
        yield lambda compared: bar.update(task, description=f"compared: {compared:,}")
