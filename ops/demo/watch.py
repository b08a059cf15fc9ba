"""What is seen while the demo runs: how far it is, and how the deployment keeps up."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from ops.invariants.events import find_missing
from ops.invariants.subject import Sent
from ops.simulate import Ledger

PLAIN_EVERY_SECONDS = 5.0
RATE_SECONDS = 5.0

_DELAY = text("""
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP
  (ORDER BY extract(epoch FROM processed_at - received_at)) AS seconds
FROM webhook_events WHERE processed_at > clock_timestamp() - interval '5 seconds'
""")


@dataclass
class Applied:
    """Which of the accepted events stand recorded, as far as the database has told."""

    sent: Mapping[str, Sent]
    pending: set[str] = field(default_factory=set)
    looked_at: int = 0
    delay: tuple[float, float] | None = None
    """Seconds from receipt to commit over the last five seconds, p50 and p99."""
    is_blind: bool = False
    """Whether the database did not answer the last time."""

    def is_complete(self, ledger: Ledger) -> bool:
        """Tell whether everything accepted so far is known to be recorded."""
        return not (self.pending or self.is_blind) and self.looked_at == len(ledger.accepted)

    def look(self, engine: Engine, ledger: Ledger) -> None:
        """Ask the database about everything accepted that was not there before; blocks."""
        accepted = list(ledger.accepted)
        self.pending.update(accepted[self.looked_at :])
        self.looked_at = len(accepted)
        try:
            with engine.connect() as connection:
                asked = {event_id: self.sent[event_id] for event_id in self.pending}
                self.pending = find_missing(connection, asked)
                seconds = connection.execute(_DELAY).scalar_one()
        except DBAPIError:
            self.is_blind = True
            return
        self.is_blind = False
        self.delay = (float(seconds[0]), float(seconds[1])) if seconds else None


class View:
    """A live view on a terminal, a line every five seconds elsewhere; use as a context."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._sending = self._bar.add_task("answered", total=total)
        self._applying = self._bar.add_task("applied ", total=None)
        self._live = Live(console=console, refresh_per_second=4)
        self._line = ""
        self._marks: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self._printed_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.update(self._bar)
        self._live.stop()

    def show(self, ledger: Ledger, applied: Applied) -> None:
        """Show how far everything is."""
        known = len(ledger.accepted)
        self._bar.update(self._sending, completed=ledger.deliveries)
        self._bar.update(
            self._applying, completed=known - len(applied.pending), total=len(applied.sent)
        )
        self._line = (
            f"{self._rate(ledger.deliveries):,.0f} deliveries/s    {_lag(applied)}    "
            f"{_delay(applied.delay)}"
        )
        if self._console.is_terminal:
            self._live.update(self._render(ledger))
        elif time.monotonic() - self._printed_at >= PLAIN_EVERY_SECONDS:
            self._printed_at = time.monotonic()
            self._console.print(f"{ledger.deliveries:,} of {self._total:,}    {self._line}")

    def say(self, lines: Sequence[str]) -> None:
        """Print lines above the live view."""
        for line in lines:
            self._console.print(line, markup=False)

    def _render(self, ledger: Ledger) -> RenderableType:
        refused = {status: n for status, n in ledger.answers.items() if status != "200"}
        told = ", ".join(f"{n:,} x {status}" for status, n in sorted(refused.items()))
        return Group(self._bar, Text(self._line), Text(told and f"sent again: {told}", "yellow"))

    def _rate(self, deliveries: int) -> float:
        now = time.monotonic()
        self._marks.append((now, deliveries))
        while len(self._marks) > 2 and self._marks[1][0] < now - RATE_SECONDS:  # noqa: PLR2004 - two make a slope
            self._marks.pop(0)
        began, before = self._marks[0]
        return (deliveries - before) / max(now - began, 0.001)


def _lag(applied: Applied) -> str:
    if applied.is_blind:
        return "lag unknown: PostgreSQL does not answer"
    return f"lag {len(applied.pending):,} events"


def _delay(delay: tuple[float, float] | None) -> str:
    if delay is None:
        return ""
    return f"receipt to commit p50 {delay[0] * 1000:,.0f} ms, p99 {delay[1] * 1000:,.0f} ms"
