"""`hookline send`: sign event files as Stripe would, and send them to ingest."""

import asyncio
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.delivery import DEFAULT_URL, Delivery, deliver
from ops.usage import UsageError
from schemas.settings import SecretSettings, load

MODES = ("test", "live")


@dataclass(frozen=True, slots=True)
class EventFile:
    """One event as it stands in a file."""

    path: Path
    document: dict[str, Any]

    @property
    def id(self) -> str:
        """The event's id."""
        return str(self.document["id"])

    @property
    def body(self) -> bytes:
        """The bytes to sign and send."""
        return json.dumps(self.document, ensure_ascii=False, indent=2).encode()


def send_paths(paths: Sequence[Path], *, fresh_ids: bool, mode: str | None) -> int:
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
    deliveries: list[Delivery] = []
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("sending", total=len(prepared))

        def take(delivery: Delivery) -> None:
            deliveries.append(delivery)
            bar.advance(task)

        asyncio.run(deliver(prepared, url, secret, take))
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


def report(console: Console, deliveries: Sequence[Delivery], skipped: dict[Path, str]) -> None:
    """Print what was answered how often, and which files were no events."""
    table = Table("HTTP", "answer", "events", title=f"{len(deliveries)} events sent")
    counted = Counter((delivery.status, delivery.summary) for delivery in deliveries)
    for (status, summary), count in sorted(counted.items()):
        table.add_row(str(status or "none"), summary, str(count))
    console.print(table)
    for path, why in skipped.items():
        console.print(f"skipped {path}: {why}", style="yellow", highlight=False, soft_wrap=True)


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
