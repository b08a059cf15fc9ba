"""A company that Stripe has known for long and hookline has not: its customers and its truth."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ops.cli import app
from ops.invariants.checker import find
from ops.invariants.subject import Finding, Subject
from ops.simulator.history import History, World
from ops.simulator.life import Event
from ops.simulator.truth import CustomerTruth
from schemas.plans import load_plans
from support.bench import Bench
from support.billing import GRACE
from support.pipeline import SECRET
from support.stripe import DAY
from support.stripe_twin import KEY, LISTED_SECONDS, StripeTwin, serving

END = 1_795_000_000
JOIN = END - 6 * DAY
"""When hookline is switched on."""

MONTHS = 24
EVENTS_AT_ONCE = 100

Run = Callable[..., Result]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a test keeps of customers from before: their truth, and what is sent from now on."""

    truths: list[CustomerTruth]
    sent: list[Event]
    """What is stamped from two days before the join on, in no order."""
    coming: list[Event]
    """What Stripe has still to be told of, in order."""
    events: int


def company(customers: int, seed: str) -> Iterator[History]:
    """Yield customers whose histories fill two years; half of them still have things to come."""
    worlds = [World(f"{seed}{n}", END if n % 2 else END - n * 30 * DAY) for n in range(MONTHS)]
    return (worlds[n % MONTHS].history(n // MONTHS) for n in range(customers))


def join(customers: int, seed: str, twin: StripeTwin) -> Joined:
    """Let a company live until hookline is switched on; customer by customer, for their bytes."""
    joined = Joined([], [], [], 0)
    events = 0
    for history in company(customers, seed):
        joined.truths.append(history.truth)
        joined.sent.extend(e for e in history.events if e.created > JOIN - 2 * DAY)
        joined.coming.extend(twin.live([history], JOIN))
        events += len(history.events)
    Random(seed).shuffle(joined.sent)  # noqa: S311 - the same order each time
    return replace(joined, events=events)


def expected(truth: CustomerTruth, twin: StripeTwin) -> CustomerTruth:
    """Return what can be known: what failed before Stripe's list begins, counts from its due."""
    lives = []
    for life in truth.subscriptions:
        since = life.unpaid_since
        if since is not None and since < JOIN - LISTED_SECONDS:
            shown = twin.expanded(life.subscription_id)
            since = shown["latest_invoice"]["status_transitions"]["finalized_at"]
        lives.append(replace(life, unpaid_since=since))
    return replace(truth, subscriptions=tuple(lives))


def mismatches(
    bench: Bench, truths: Iterable[CustomerTruth], twin: StripeTwin, plans_file: Path
) -> list[Finding]:
    """Hold rows, facts, references and the audit trail against what is true."""
    subject = Subject(
        engine=bench.engine,
        plans=load_plans(plans_file),
        grace=GRACE,
        group="group",
        truths=[expected(truth, twin) for truth in truths],
    )
    return find(subject, ("I2", "I3", "I4"))


def deliver(bench: Bench, events: Sequence[Event]) -> None:
    """Apply events as they would come from Kafka."""
    position = bench.standing()
    for first in range(0, len(events), EVENTS_AT_ONCE):
        documents = [json.loads(event.body) for event in events[first : first + EVENTS_AT_ONCE]]
        position = bench.apply(documents, position)


def stored(bench: Bench) -> list[list[Any]]:
    """Return all that a backfill may change."""
    return [
        bench.query("SELECT * FROM customers ORDER BY 1"),
        bench.query("SELECT * FROM subscriptions ORDER BY 1"),
        bench.query("SELECT * FROM billing_audit ORDER BY 1"),
    ]


@contextmanager
def command(
    bench: Bench, redis_url: str, plans_file: Path, twin: StripeTwin, **more: str
) -> Iterator[Run]:
    """Provide `hookline` in this process, with the bench's servers and the twin for Stripe."""
    with serving(twin) as base, pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "DATABASE_URL": bench.url,
            "REDIS_URL": redis_url,
            "PLANS_FILE": str(plans_file),
            "LIVEMODE": "test",
            "WEBHOOK_SECRETS": SECRET,
            "STRIPE_API_KEY": KEY,
            "STRIPE_API_BASE": base,
            **more,
        }.items():
            environment.setenv(f"HOOKLINE_{name}", value)

        def run(*arguments: str, **other: str | None) -> Result:
            changed = {f"HOOKLINE_{name}": value for name, value in other.items()}
            return CliRunner().invoke(app, list(arguments), env=changed)

        yield run
