"""What the demo found: a table for people, a document for programs."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from ops.demo.breaking import Outage
from ops.usage import UsageError

SHOWN_MISMATCHES = 20


class Mismatch(NamedTuple):
    """Something that is not as it must be, and whose or where."""

    customer: str
    what: str


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds from ingest's receipt of an event to the commit of its effects."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a run of the demo measured and found."""

    repeat: str
    """The options that send the same bytes again."""
    customers: int
    subscriptions: int
    events: int
    deliveries: int
    duplicates: int
    resent: int
    answers: dict[str, int]
    """How often ingest answered with each status, `none` for no answer."""
    applied: int
    """Events applied by this run: fewer than sent where some were known before."""
    dropped_duplicates: int | None
    """Deliveries that consumers dropped as known; None where a counter started anew."""
    seconds: float
    """From the first receipt to the last commit."""
    receipt_to_commit_seconds: Delay | None
    customers_by_tier: dict[str, int]
    outage: Outage | None
    invariants: dict[str, str]
    """Which invariants were checked, each holds, broken or not checked."""
    invariants_line: str
    mismatches: list[Mismatch]

    @property
    def events_per_second(self) -> float:
        """Events applied a second, from the first receipt to the last commit."""
        return self.applied / self.seconds if self.seconds else 0.0

    def to_document(self) -> dict[str, Any]:
        """Return what `--json` writes; `mismatches` is their number, `details` names them."""
        found = asdict(self)
        del found["invariants_line"]
        details = [mismatch._asdict() for mismatch in self.mismatches]
        return found | {
            "events_per_second": round(self.events_per_second, 1),
            "mismatches": len(details),
            "details": details,
        }


def require_writable(path: Path) -> None:
    """Raise UsageError if the report could not be written in the end."""
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written: {error.strerror}") from None


def write_json(report: Report, path: Path) -> None:
    """Write the report to a file."""
    path.write_text(json.dumps(report.to_document(), indent=2) + "\n", encoding="utf-8")


def print_report(console: Console, report: Report) -> None:
    """Print the table, and what does not match."""
    table = Table(title="demo", show_header=False, title_justify="left")
    for name, value in _lines(report):
        table.add_row(name, value)
    console.print(table)
    console.print(f"invariants: {report.invariants_line}")
    console.print(f"the same again:\n  hookline demo {report.repeat}")
    if not report.mismatches:
        console.print("every subscription, customer and answer is as it must be", style="green")
        return
    customers = Counter(mismatch.customer for mismatch in report.mismatches)
    console.print(
        f"{len(report.mismatches)} mismatches of {len(customers)} customers:", style="bold red"
    )
    for mismatch in report.mismatches[:SHOWN_MISMATCHES]:
        console.print(f"  {mismatch.customer}  {mismatch.what}", style="red", markup=False)
    left = len(report.mismatches) - SHOWN_MISMATCHES
    if left > 0:
        console.print(f"  and {left} more; --json FILE names them all", style="red")


def _lines(report: Report) -> list[tuple[str, str]]:
    answers = ", ".join(f"{n:,} x {status}" for status, n in sorted(report.answers.items()))
    tiers = ", ".join(f"{tier} {n:,}" for tier, n in report.customers_by_tier.items())
    lines = [
        ("customers, subscriptions", f"{report.customers:,}, {report.subscriptions:,}"),
        ("deliveries", f"{report.deliveries:,} of {report.events:,} events, shuffled"),
        ("duplicates", _duplicates(report)),
        ("answers", answers + (f" (sent again: {report.resent:,})" if report.resent else "")),
        ("events per second", f"{report.events_per_second:,.0f} over {report.seconds:.1f} s"),
        ("receipt to commit", _delay(report.receipt_to_commit_seconds)),
        ("customers by tier", tiers),
        ("mismatches", f"{len(report.mismatches):,}"),
    ]
    if report.outage is not None:
        outage = report.outage
        state = "ready again after" if outage.is_mended else "not ready after"
        lines.insert(
            -1,
            ("broken", f"{outage.part}: kill -9 {outage.kills} x, {state} {outage.seconds:.1f} s"),
        )
    return lines


def _duplicates(report: Report) -> str:
    if report.dropped_duplicates is None:
        return f"{report.duplicates:,} sent (a consumer began anew)"
    return f"{report.duplicates:,} sent, {report.dropped_duplicates:,} dropped as known"


def _delay(delay: Delay | None) -> str:
    if delay is None:
        return "nothing was new"
    parts = {"p50": delay.p50, "p95": delay.p95, "p99": delay.p99}
    return ", ".join(f"{name} {seconds * 1000:,.0f} ms" for name, seconds in parts.items())
