"""`hookline send`: sign event files as Stripe would, and send them to ingest."""

import asyncio
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2 as httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.usage import UsageError
from schemas.settings import SecretSettings, load
from schemas.signature import sign

CONCURRENCY = 64
TIMEOUT_SECONDS = 30.0
DEFAULT_URL = "http://127.0.0.1:8080"
MODES = ("test", "live")


@dataclass(frozen=True, slots=True)
class EventFile:
    """One event as it stands in a file."""

    path: Path
    document: dict[str, Any]

    @property
    def event_id(self) -> str:
        """The event's id."""
        return str(self.document["id"])

    def body(self) -> bytes:
        """Return the bytes to sign and send."""
        return json.dumps(self.document, ensure_ascii=False, indent=2).encode()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What ingest answered to one event; status 0: no answer came."""

    event_id: str
    status: int
    answer: dict[str, Any]

    @property
    def summary(self) -> str:
        """What the answer says in a word or two."""
        word = str(self.answer.get("status") or self.answer.get("error") or "")
        reason = self.answer.get("reason")
        return f"{word}: {reason}" if reason else word


def send_paths(
    paths: Sequence[Path], *, fresh_ids: bool, mode: str | None, concurrency: int = CONCURRENCY
) -> int:
    """Send the events of files and folders; return 0 if all were answered 200, else 1.

    HOOKLINE_INGEST_URL and HOOKLINE_WEBHOOK_SECRETS say where and signed with what. Raises
    UsageError or SettingsError.
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"--mode {mode}: say test or live")
    events, skipped = read_events(paths)
    if not events:
        raise UsageError(f"there is no event in {', '.join(map(str, paths))}")
    prepared = [prepare(event, fresh_ids=fresh_ids, mode=mode) for event in events]
    secret = load(SecretSettings).webhook_secrets[0].get_secret_value()
    url = os.environ.get("HOOKLINE_INGEST_URL", DEFAULT_URL)
    console = Console()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("sending", total=len(prepared))
        deliveries = asyncio.run(
            deliver(prepared, url, secret, concurrency, lambda _: bar.advance(task))
        )
    report(console, deliveries, skipped)
    return 0 if all(delivery.status == HTTPStatus.OK for delivery in deliveries) else 1


def read_events(paths: Iterable[Path]) -> tuple[list[EventFile], dict[Path, str]]:
    """Return the events found, in order of their paths, and why each other file is none."""
    events: list[EventFile] = []
    skipped: dict[Path, str] = {}
    for path in _files(paths):
        try:
            events.append(EventFile(path, _read_event(path)))
        except ValueError as error:
            skipped[path] = str(error)
    return events, skipped


def prepare(event: EventFile, *, fresh_ids: bool, mode: str | None) -> EventFile:
    """Return an event with an id of its own, or of another mode, as asked."""
    document = dict(event.document)
    if fresh_ids:
        document["id"] = f"evt_{secrets.token_hex(12)}"
    if mode is not None:
        document["livemode"] = mode == "live"
    return replace(event, document=document)


async def deliver(
    events: Sequence[EventFile],
    url: str,
    secret: str,
    concurrency: int,
    on_answer: Callable[[Delivery], None],
) -> list[Delivery]:
    """Send events, some at a time, each signed at that moment; answers in the events' order."""
    limit = asyncio.Semaphore(concurrency)
    target = url.rstrip("/") + "/webhooks/stripe"

    async def send_one(client: httpx.AsyncClient, event: EventFile) -> Delivery:
        async with limit:
            delivery = await _post(client, target, event, secret)
        on_answer(delivery)
        return delivery

    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT_SECONDS) as client:
        return list(await asyncio.gather(*(send_one(client, event) for event in events)))


def report(console: Console, deliveries: Sequence[Delivery], skipped: dict[Path, str]) -> None:
    """Print what was answered how often, and which files were no events."""
    table = Table("HTTP", "answer", "events", title=f"{len(deliveries)} events sent")
    counted = Counter((delivery.status, delivery.summary) for delivery in deliveries)
    for (status, summary), count in sorted(counted.items()):
        table.add_row(str(status or "none"), summary, str(count))
    console.print(table)
    for path, why in skipped.items():
        console.print(f"skipped {path}: {why}", style="yellow", highlight=False, soft_wrap=True)


async def _post(client: httpx.AsyncClient, url: str, event: EventFile, secret: str) -> Delivery:
    body = event.body()
    headers = {
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": sign(body, secret, int(time.time())),
    }
    try:
        response = await client.post(url, content=body, headers=headers)
    except httpx.HTTPError as error:
        return Delivery(event.event_id, 0, {"error": type(error).__name__})
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    known = answer if isinstance(answer, dict) else {}
    return Delivery(event.event_id, response.status_code, known)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.json"))
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"there is no file or folder {path}")


def _read_event(path: Path) -> dict[str, Any]:
    """Return a file's event; raises ValueError saying why it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a value, read from a file
    missing = [name for name in ("id", "type") if not isinstance(document.get(name), str)]
    if missing:
        raise ValueError(f"no event: it has no {' and no '.join(missing)}")
    return document
