"""`hookline dead-letters list`: a table on a terminal, tabs between fields where it is none."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumer.storage.dead_letters import Reason
from consumer.storage.engine import make_engine
from consumer.storage.history import snapshot
from consumer.storage.stored_letters import Choice, LetterSummary, count_letters, list_letters
from ops.counting import count
from ops.dead_letters.words import by_reason, read_reason, visible
from ops.explain.words import duration
from schemas.settings import DatabaseSettings

COLUMNS = ("id", "reason", "age", "attempts", "event", "customer", "type", "source", "error")
PLAIN_ERROR = 200
"""Characters of an error in a line of plain text."""


def run(
    settings: DatabaseSettings, *, reason: str | None, resolved: bool, limit: int, as_json: bool
) -> int:
    """Print dead letters, oldest first, and how many there are by reason; return 0.

    Blocks. Raises UsageError or sqlalchemy's DBAPIError.
    """
    choice = Choice(read_reason(reason), resolved)
    with snapshot(make_engine(settings, "dead-letters")) as connection:
        letters = list_letters(connection, choice, limit)
        totals = count_letters(connection, choice)
    console = Console(highlight=False, markup=False)
    if as_json:
        print(json.dumps(to_document(letters, totals), indent=2))  # noqa: T201 - it is the output
    elif not letters:
        console.print(_nothing(choice))
    elif console.is_terminal:
        console.print(_table(letters, datetime.now(UTC)))
        console.print(_summary(letters, totals, choice), style="bold")
    else:
        for line in _plain(letters, datetime.now(UTC)):
            print(line)  # noqa: T201 - same
        print(_summary(letters, totals, choice))  # noqa: T201 - same
    return 0


def to_document(letters: Sequence[LetterSummary], totals: Mapping[str, int]) -> dict[str, object]:
    """Return what `--json` prints; times as ISO 8601 spells them, `totals` counts all."""
    return {
        "dead_letters": [
            {
                name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
                for name, value in (asdict(letter) | {"type": type_of(letter)}).items()
            }
            for letter in letters
        ],
        "totals": dict(totals),
    }


def type_of(letter: LetterSummary) -> str | None:
    """Return an event's type; of an unsigned record nobody vouches for it."""
    return None if letter.reason == Reason.UNSIGNED else letter.type


def _table(letters: Sequence[LetterSummary], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    ages = {letter.dead_letter_id: duration(now - letter.first_failed_at) for letter in letters}
    widths = (
        ("id", max(2, *(len(str(number)) for number in ages))),
        ("reason", max(6, *(len(letter.reason) for letter in letters))),
        ("age", max(3, *map(len, ages.values()))),
        ("tries", 5),
    )
    for name, width in widths:
        table.add_column(name, no_wrap=True, min_width=width)
    table.add_column("event, type and source, error", no_wrap=True, overflow="ellipsis")
    for letter in letters:
        reason = Text(letter.reason, style="yellow")
        if letter.resolved_at is not None:
            reason = Text(f"{letter.reason}\nresolved", style="dim")
        table.add_row(
            str(letter.dead_letter_id),
            reason,
            ages[letter.dead_letter_id],
            str(letter.attempts),
            _lines(letter),
        )
    return table


def _lines(letter: LetterSummary) -> Text:
    whose = " ".join(filter(None, (letter.event_id, letter.customer_id)))
    what = " ".join(filter(None, (type_of(letter), _source(letter))))
    text = Text()
    if whose:
        text.append(visible(whose) + "\n", style="bold")
    text.append(visible(what) + "\n")
    return text.append(visible(letter.error), style="dim")


def _plain(letters: Sequence[LetterSummary], now: datetime) -> Iterator[str]:
    yield "\t".join(COLUMNS)
    for letter in letters:
        fields = (
            str(letter.dead_letter_id),
            letter.reason + (", resolved" if letter.resolved_at is not None else ""),
            duration(now - letter.first_failed_at),
            str(letter.attempts),
            letter.event_id or "-",
            letter.customer_id or "-",
            type_of(letter) or "-",
            _source(letter),
            letter.error[:PLAIN_ERROR],
        )
        yield "\t".join(map(visible, fields))


def _source(letter: LetterSummary) -> str:
    return f"{letter.topic}/{letter.partition}/{letter.kafka_offset}"


def _summary(letters: Sequence[LetterSummary], totals: Counter[str], choice: Choice) -> str:
    noun = "dead letter" if choice.resolved else "open dead letter"
    said = f"{count(totals.total(), noun)}: {by_reason(totals)}"
    if len(letters) < totals.total():
        return f"the oldest {len(letters):,} of {said}; --limit shows more"
    return said


def _nothing(choice: Choice) -> str:
    of = f" of the reason {choice.reason.value}" if choice.reason else ""
    return (
        f"Nothing is set aside{of}." if choice.resolved else f"Nothing is set aside and open{of}."
    )
