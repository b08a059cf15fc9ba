"""`hookline simulate`: the events of simulated customers, sent as Stripe sends them."""

import asyncio
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Self

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.delivery import CONCURRENCY, DEFAULT_URL, Delivery, deliver
from ops.simulator.deliveries import mix
from ops.simulator.history import World
from ops.simulator.life import Event
from ops.simulator.objects import Shape
from ops.usage import UsageError
from schemas.settings import SecretSettings, load

PATIENCE_SECONDS = 120.0
"""How long an event is sent again that ingest cannot take; Stripe goes on for three days."""

SHAPES = {"old": (Shape.OLD,), "basil": (Shape.BASIL,), "both": (Shape.OLD, Shape.BASIL)}
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to simulate, and how to send it."""

    customers: int
    world: World
    duplicates: float
    concurrency: int = CONCURRENCY
    rate: float | None = None

    @classmethod
    def choose(
        cls,
        *,
        customers: int,
        seed: str | None,
        end: str | None,
        shape: str,
        duplicates: float,
        concurrency: int = CONCURRENCY,
        rate: float | None = None,
    ) -> Self:
        """Read what a person asked for; raises UsageError.

        No seed: a new one. No end: the hour that has begun, so that some grace periods run now.
        """
        if shape not in SHAPES:
            raise UsageError(f"--shape {shape}: say {', '.join(SHAPES)}")
        if not 0 <= duplicates <= 1:
            raise UsageError(f"--duplicates {duplicates}: say a share of the events, 0 to 1")
        if rate is not None and rate <= 0:
            raise UsageError(f"--rate {rate}: say how many events a second, above 0")
        world = World(seed or secrets.token_hex(3), _read_end(end), SHAPES[shape])
        return cls(customers, world, duplicates, concurrency, rate)

    def deliveries(self) -> Iterator[Event]:
        """Yield what to send, in order."""
        return mix(self.world.histories(self.customers), self.duplicates, self.world.seed)

    def repeat(self) -> str:
        """Return the options that make the same bytes again."""
        end = datetime.fromtimestamp(self.world.end, UTC).isoformat().replace("+00:00", "Z")
        shape = next(name for name, shapes in SHAPES.items() if shapes == self.world.shapes)
        options = f"--customers {self.customers} --seed {self.world.seed} --end {end}"
        return f"{options} --shape {shape} --duplicates {self.duplicates:g}"


@dataclass
class Ledger:
    """What ingest answered; `file` gets a JSON line for each event answered 200, at once."""

    file: IO[str] | None = None
    deliveries: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """Every HTTP answer, those included after which an event was sent again."""
    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter)
    resent: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    """How often each event was accepted: these may not be lost."""
    given_up: list[str] = field(default_factory=list)

    def take(self, delivery: Delivery) -> None:
        """Note the last answer to a delivery, and those before it."""
        self.deliveries += 1
        statuses = [*delivery.refused, delivery.status]
        self.answers.update(str(status or "none") for status in statuses)
        self.outcomes[delivery.status, delivery.summary] += 1
        self.resent += len(delivery.refused)
        if delivery.status != HTTPStatus.OK:
            self.given_up.append(delivery.event_id)
            return
        if delivery.answer.get("status") == "accepted":
            self.accepted[delivery.event_id] = self.accepted.get(delivery.event_id, 0) + 1
        if self.file is not None:
            line = {"event": delivery.event_id, "answered_at": time.time()} | delivery.answer
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


def simulate(traffic: Traffic, ledger_file: Path | None) -> int:
    """Send a simulated load and return 0 if all was answered 200 in the end, else 1; blocks.

    HOOKLINE_INGEST_URL and HOOKLINE_WEBHOOK_SECRETS say where and signed with what. Raises
    UsageError or SettingsError.
    """
    secret = load(SecretSettings).webhook_secrets[0].get_secret_value()
    console = Console(highlight=False, soft_wrap=True)
    with _keep_ledger(ledger_file) as ledger:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("sending", total=None)

            def take(delivery: Delivery) -> None:
                ledger.take(delivery)
                bar.advance(task)

            asyncio.run(send(traffic, traffic.deliveries(), secret, take))
        _report(console, traffic, ledger)
    return 1 if ledger.given_up else 0


async def send(
    traffic: Traffic, events: Iterable[Event], secret: str, take: Callable[[Delivery], None]
) -> None:
    """Send events at the traffic's pace, again while ingest cannot take them."""
    await deliver(
        events,
        os.environ.get("HOOKLINE_INGEST_URL", DEFAULT_URL),
        secret,
        take,
        concurrency=traffic.concurrency,
        rate=traffic.rate,
        patience=PATIENCE_SECONDS,
    )


@contextmanager
def _keep_ledger(path: Path | None) -> Iterator[Ledger]:
    """Keep a ledger, in a file as well if one is named; raises UsageError."""
    if path is None:
        yield Ledger()
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--ledger {path}: cannot be written: {error.strerror}") from None
    with file:
        yield Ledger(file)


def _report(console: Console, traffic: Traffic, ledger: Ledger) -> None:
    title = f"{ledger.deliveries} deliveries of {traffic.customers} customers"
    table = Table("HTTP", "answer", "events", title=title)
    for (status, summary), count in sorted(ledger.outcomes.items()):
        table.add_row(str(status or "none"), summary, str(count))
    console.print(table)
    if ledger.resent:
        console.print(f"sent again after 5xx or no answer: {ledger.resent}")
    console.print(f"the same again:\n  hookline simulate {traffic.repeat()}")


def _read_end(text: str | None) -> int:
    if text is None:
        return int(time.time()) // HOUR * HOUR
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--end {text}: say a time like 2026-11-24T10:00:00Z") from None
    seconds = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    if seconds > time.time():
        raise UsageError(f"--end {text}: lies in the future, where nothing has happened yet")
    return seconds
