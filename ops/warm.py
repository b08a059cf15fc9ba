"""`hookline warm`: ordinary reads of many customers, so that their next answer is cached."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine, text

from consumer.gatekeeper import AsyncGatekeeper, Unreadable
from consumer.storage.engine import make_engine
from consumer.storage.redis_session import WrongRedisError
from ops.counting import count
from ops.usage import UsageError, require_customer
from schemas.settings import ReaderSettings

AT_ONCE = 16
PAGE = 1_000
REDIS_SECONDS = 1.0
"""Nobody waits for these answers, so a slow Redis may take longer than a caller would bear."""

_COUNT = text("SELECT count(*) FROM customers")
_PAGE = text(
    "SELECT customer_id FROM customers WHERE customer_id > :after ORDER BY customer_id LIMIT :most"
)


@dataclass(slots=True)
class Tally:
    """What came of the reads."""

    already: int = 0
    read: int = 0
    stored: int = 0
    unreadable: int = 0
    problem: str | None = None
    """Why nothing can be cached."""


def run(settings: ReaderSettings, *, customers: Sequence[str], everybody: bool) -> int:
    """Read customers, sixteen at a time, and return the exit code; blocks.

    Nothing is written but by the reads themselves, so it may run at any time, and twice at once.
    Exit code 1: nothing can be cached, or somebody could not be read. Raises UsageError,
    PlansError, or sqlalchemy's DBAPIError.
    """
    if everybody == bool(customers):
        raise UsageError("say whom to warm: --all, or --customer ID, repeatable")
    asked = [require_customer(customer) for customer in customers]
    engine = make_engine(settings, "warm")
    ids = _everybody(engine) if everybody else iter(asked)
    console = Console(highlight=False, soft_wrap=True)
    with _progress(console, _count_all(engine) if everybody else len(asked)) as advance:
        tally = asyncio.run(_warm(settings, ids, advance))
    for line in tell(tally):
        console.print(line)
    return 1 if tally.problem or tally.unreadable else 0


def tell(tally: Tally) -> Iterator[str]:
    """Yield the lines that say what came of it."""
    if tally.problem:
        yield f"nothing can be cached: Redis: {tally.problem}"
        return
    asked = count(tally.already + tally.read + tally.unreadable, "customer")
    left = tally.read - tally.stored
    yield f"{asked}: {tally.stored:,} stored, {tally.already:,} cached already"
    if left:
        yield f"{left:,} read and not stored: they changed meanwhile, or another reader stores them"
    if tally.unreadable:
        yield f"{tally.unreadable:,} could not be read: PostgreSQL did not answer in time"


async def _warm(
    settings: ReaderSettings, customers: Iterator[str], advance: Callable[[], None]
) -> Tally:
    registry = CollectorRegistry()
    tally = Tally()
    async with AsyncGatekeeper(
        settings, registry=registry, redis_seconds=REDIS_SECONDS
    ) as gatekeeper:
        try:
            await gatekeeper.line.greet()
        except WrongRedisError as error:
            return Tally(problem=str(error))
        if not gatekeeper.line.is_connected:
            return Tally(problem=gatekeeper.line.problem() or "it does not answer")

        async def work() -> None:
            for customer in customers:
                if tally.problem:
                    return
                await _read(gatekeeper, customer, tally)
                advance()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
    stored = registry.get_sample_value(
        "hookline_gatekeeper_cache_leases_total", {"outcome": "filled"}
    )
    tally.stored = int(stored or 0)
    return tally


async def _read(gatekeeper: AsyncGatekeeper, customer: str, tally: Tally) -> None:
    try:
        answer = await gatekeeper.by_customer(customer)
    except Unreadable:
        tally.unreadable += 1
    else:
        tally.already += answer.source == "cache"
        tally.read += answer.source == "database"
    tally.problem = gatekeeper.line.problem()


def _count_all(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(_COUNT) or 0)


def _everybody(engine: Engine) -> Iterator[str]:
    """Yield all customers in pages, so that no transaction stays open."""
    after = ""
    while True:
        with engine.connect() as connection:
            page = connection.scalars(_PAGE, {"after": after, "most": PAGE}).all()
        if not page:
            return
        yield from page
        after = page[-1]


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar while customers are read, on a terminal only."""
    shown = console if console.is_terminal else Console(stderr=True)
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("warming", total=total)
        yield lambda: bar.advance(task)
