"""`hookline recompute`: fold the recorded events again, show what differs, mend it if asked."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import Progress

from consumer.billing.projection import Row
from consumer.recompute import Difference, Findings, tier_change, unmendable
from consumer.repair import Repair
from consumer.storage.engine import make_engine
from consumer.storage.history import count_customers, snapshot
from consumer.storage.removals import load_removals
from ops.explain.words import day
from ops.usage import UsageError, require_customer
from schemas.plans import load_plans
from schemas.settings import RecallSettings

EXIT_DIFFERENT = 3


@dataclass(slots=True)
class Tally:
    """What a run has seen; its size does not grow with the number of differences."""

    customers: int = 0
    subscriptions: int = 0
    events: int = 0
    differing: int = 0
    unmended: int = 0
    tiers: Counter[tuple[str, str]] = field(default_factory=Counter)
    retained_from: datetime | None = None
    """Events created before are gone by retention."""

    def add(self, findings: Findings) -> None:
        """Count one customer."""
        self.customers += 1
        self.subscriptions += len(findings.subscriptions)
        self.events += findings.events
        self.differing += bool(findings.differences)
        for one in findings.subscriptions:
            if change := tier_change(one.differences):
                self.tiers[change] += 1

    def summary(self) -> Iterator[str]:
        """Yield what a person should know at the end, a sentence a line."""
        looked_at = ", ".join(
            (
                _count(self.customers, "customer"),
                _count(self.subscriptions, "subscription"),
                _count(self.events, "event")
                + (f" and the facts up to {day(self.retained_from)}" if self.retained_from else ""),
            )
        )
        verdict = f"{_count(self.differing, 'customer')} with differences"
        yield f"{looked_at}: {verdict if self.differing else 'no difference'}"
        for (old, new), count in self.tiers.most_common():
            yield f"{_count(count, 'subscription')}: tier {old} -> {new}, by the plans file of now"


def run(settings: RecallSettings, *, customer: str | None, apply: bool) -> int:
    """Compare one customer or all, print differences and a summary; return the exit code.

    Blocks. 0: nothing differs, or all of it was mended; 3: something differs. Raises UsageError,
    PlansError or sqlalchemy's DBAPIError.
    """
    plans = load_plans(settings.plans_file)
    engine = make_engine(settings, "recompute")
    repair = Repair(engine, plans, timedelta(hours=settings.grace_hours))
    with snapshot(engine) as connection:
        removals = load_removals(connection, [customer] if customer else ())
    tally = Tally(retained_from=removals.latest(customer))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if customer is not None:
        found: Iterator[Findings] = iter([_find_one(repair, require_customer(customer))])
        total = 1
    else:
        found = repair.examine_all()
        with snapshot(engine) as connection:
            total = count_customers(connection)
    with _progress(console, found, total) as watched:
        for findings in watched:
            seen = findings
            if apply and findings.differences:
                seen = repair.mend(findings, lambda: datetime.now(UTC))
            tally.add(seen)
            tally.unmended += unmendable(seen) or (bool(seen.differences) and not apply)
            for line in describe(seen):
                console.print(line)
    for line in tally.summary():
        console.print(line, style="bold")
    if apply and tally.differing:
        left = f"; {_count(tally.unmended, 'customer')} cannot be mended" if tally.unmended else ""
        console.print(f"mended{left}", style="bold")
    elif tally.differing:
        console.print("nothing was written; --apply writes what was recomputed")
    return EXIT_DIFFERENT if tally.unmended else 0


def describe(findings: Findings) -> Iterator[str]:
    """Yield the lines that show one customer's differences; none where it is sound."""
    if findings.is_sound:
        return
    yield findings.customer_id
    for event_id, why in findings.unreadable:
        yield f"    {event_id} is recorded, and cannot be read any more: {why}"
    shown: str | None = None
    for one in findings.differences:
        if one.subscription_id not in {None, shown}:
            shown = one.subscription_id
            yield f"  {shown}"
        yield f"    {one.field:<21} {say_change(one)}"


def say_change(one: Difference) -> str:
    """Say what one field is, and what it should be."""
    if isinstance(one.stored, frozenset) and isinstance(one.recomputed, frozenset):
        lacking = sorted(fact.id for fact in one.recomputed - one.stored)
        surplus = sorted(fact.id for fact in one.stored - one.recomputed)
        parts = [("lacks", lacking), ("holds wrongly", surplus)]
        return "; ".join(f"{word} {', '.join(ids)}" for word, ids in parts if ids)
    return f"{say_value(one.stored)} -> {say_value(one.recomputed)}"


def say_value(value: Any) -> str:
    """Return a field's value as a person reads it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Row):
        return f"{value.status}, {value.tier}"
    if isinstance(value, frozenset):
        return f"{len(value)} from events"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)


def _find_one(repair: Repair, customer: str) -> Findings:
    findings = repair.examine_one(customer)
    if findings.stored is None and not findings.events and not findings.subscriptions:
        raise UsageError(f"{customer} has never been seen: nothing is stored of this customer")
    return findings


@contextmanager
def _progress(
    console: Console, found: Iterator[Findings], total: int
) -> Iterator[Iterator[Findings]]:
    """Show a bar while the customers are gone through, on a terminal only."""
    shown = console if console.is_terminal else Console(stderr=True)
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as bar:
        yield iter(bar.track(found, total=total, description="recomputing"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
