"""`hookline dead-letters show`: one record with all that is known of it, or its exact bytes."""

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from rich.console import Console

from consumer.storage.dead_letters import Reason
from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from consumer.storage.stored_letters import StoredLetter, load_letters
from ops.dead_letters.words import explain, visible
from ops.explain.words import distance, moment
from ops.usage import UsageError
from schemas.settings import DatabaseSettings


def run(settings: DatabaseSettings, *, number: int, body: bool, as_json: bool) -> int:
    """Print one dead letter, or write its bytes alone; return 0.

    Blocks. Raises UsageError or sqlalchemy's DBAPIError.
    """
    if body and as_json:
        raise UsageError("--body and --json: give one of them")
    with snapshot(make_engine(settings, "dead-letters")) as connection:
        found = load_letters(connection, [number])
    if not found:
        raise UsageError(
            f"there is no dead letter {number}: `hookline dead-letters list` shows all"
        )
    (letter,) = found
    if body:
        write_body(letter)
    elif as_json:
        print(json.dumps(to_document(letter), indent=2))  # noqa: T201 - it is the output
    else:
        _print(Console(highlight=False, markup=False), letter)
    return 0


def write_body(letter: StoredLetter) -> None:
    """Write the stored bytes to stdout; raises UsageError for a record that has none."""
    if letter.body is None:
        raise UsageError(f"dead letter {letter.dead_letter_id} is a record without a value")
    sys.stdout.buffer.write(letter.body)
    sys.stdout.buffer.flush()


def to_document(letter: StoredLetter) -> dict[str, Any]:
    """Return what `--json` prints; `body` and `key` are base64, signatures are not shown."""
    row = asdict(letter)
    for name, value in row.items():
        if isinstance(value, datetime):
            row[name] = value.astimezone(UTC).isoformat()
        elif isinstance(value, bytes):
            row[name] = base64.b64encode(value).decode()
    row["headers"] = [list(pair) for pair in shown_headers(letter)]
    row["body_sha256"] = None if letter.body is None else sha256(letter.body).hexdigest()
    return row


def shown_headers(letter: StoredLetter) -> list[tuple[str, str]]:
    """Return the headers as text; of a signature only that there is one."""
    return [
        (name, "present" if "signature" in name.lower() else value.decode("utf-8", "replace"))
        for name, value in letter.read_headers()
    ]


def readable(body: bytes) -> tuple[str, list[str]]:
    """Say what bytes are, and return lines that a terminal may print: JSON indented, else as is."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "not UTF-8", _lines(body.decode("utf-8", "backslashreplace"))
    try:
        document = json.loads(text)
        pretty = json.dumps(document, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "not JSON", _lines(text)
    return "JSON", _lines(pretty)


def _lines(text: str) -> list[str]:
    return [visible(line) for line in text.split("\n")]


def _print(console: Console, letter: StoredLetter) -> None:
    state = "open" if letter.resolved_at is None else "resolved"
    console.print(f"dead letter {letter.dead_letter_id}: {letter.reason}, {state}", style="bold")
    console.print(explain(letter.reason))
    console.print()
    for name, value in _facts(letter, datetime.now(UTC)):
        console.print(f"{name:<15}{visible(value)}", soft_wrap=True)
    console.print("\nheaders", style="bold")
    for name, value in shown_headers(letter):
        console.print(f"{visible(name):<22} {visible(value)}", soft_wrap=True)
    _print_body(console, letter)


def _facts(letter: StoredLetter, now: datetime) -> Iterator[tuple[str, str]]:
    yield "error", letter.error
    yield "attempts", str(letter.attempts)
    yield "first failed", _when(letter.first_failed_at, now)
    yield "last failed", _when(letter.last_failed_at, now)
    if letter.replayed_at is not None:
        yield "replay failed", _when(letter.replayed_at, now)
    if letter.resolved_at is not None:
        yield "resolved", _when(letter.resolved_at, now)
    yield "event", letter.event_id or "not known"
    yield "customer", letter.customer_id or "not known"
    place = f"partition {letter.partition}, offset {letter.kafka_offset}"
    yield "source", f"topic {letter.topic}, {place}"
    yield "key", "none" if letter.key is None else letter.key.decode("utf-8", "backslashreplace")


def _when(at: datetime, now: datetime) -> str:
    return f"{moment(at)}, {distance(at, now)}"


def _print_body(console: Console, letter: StoredLetter) -> None:
    if letter.body is None:
        console.print("\nbody", style="bold")
        console.print("none: a record without a value")
        return
    kind, lines = readable(letter.body)
    console.print(f"\nbody, {len(letter.body):,} bytes, {kind}", style="bold")
    console.print(f"sha256 {sha256(letter.body).hexdigest()}", soft_wrap=True)
    if letter.reason == Reason.UNSIGNED:
        console.print("Nobody's word: no signature of Stripe's vouches for it.", style="yellow")
    for line in lines:
        console.out(line, highlight=False)
