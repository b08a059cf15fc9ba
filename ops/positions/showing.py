"""`hookline positions show`: a table on a terminal, tabs between fields where it is none."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumer.storage.engine import make_engine
from ops.counting import count
from ops.positions.reading import read_standings
from ops.positions.standing import GAPS, Standing, State
from schemas.settings import PositionsSettings

EXIT_STOPPED = 3
COLUMNS = ("partition", "next", "epoch", "log", "committed", "lag", "state")
SHORT_ID = 8


def run(settings: PositionsSettings, *, as_json: bool) -> int:
    """Print each partition; return 3 if one is stopped by a gap, else 0.

    Blocks; takes no lock. Raises Retry or sqlalchemy's DBAPIError.
    """
    standings = read_standings(make_engine(settings, "positions"), settings)
    stopped = [one for one in standings if one.state in GAPS]
    if as_json:
        print(json.dumps(to_document(settings, standings), indent=2))  # noqa: T201 - the output
    else:
        _print(Console(highlight=False, markup=False), settings, standings)
    return EXIT_STOPPED if stopped else 0


def to_document(settings: PositionsSettings, standings: Sequence[Standing]) -> dict[str, Any]:
    """Return what `--json` prints; `log_end` is the offset after the last record."""
    return {
        "group": settings.kafka_group,
        "topic": settings.kafka_topic,
        "topic_id": standings[0].topic_id if standings else None,
        "partitions": [_partition(one) for one in standings],
    }


def _partition(one: Standing) -> dict[str, Any]:
    position, (first, end) = one.position, one.log or (None, None)
    return {
        "partition": one.partition,
        "next_offset": position.next_offset if position else None,
        "epoch": position.epoch if position else None,
        "topic_id": position.topic_id if position else None,
        "log_begin": first,
        "log_end": end,
        "committed": one.committed,
        "lag": one.lag,
        "state": one.state.value,
        "stopped": one.state in GAPS,
        "sentence": one.sentence(),
    }


def _print(console: Console, settings: PositionsSettings, standings: Sequence[Standing]) -> None:
    where = f"group {settings.kafka_group}, topic {settings.kafka_topic}"
    ids = f"topic id {standings[0].topic_id[:SHORT_ID]}" if standings else "no partition"
    if console.is_terminal:
        console.print(f"{where}, {ids}")
        console.print(_table(standings))
        for line in _summary(standings):
            console.print(line)
        return
    print(f"{where}, {ids}")  # noqa: T201 - it is the output
    for fields in (COLUMNS, *map(_fields, standings)):
        print("\t".join(fields))  # noqa: T201 - same
    for line in _summary(standings):
        print(line)  # noqa: T201 - same


def _table(standings: Sequence[Standing]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in COLUMNS[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(COLUMNS[-1])
    for one in standings:
        *numbers, state = _fields(one)
        style = "bold red" if one.state in GAPS else "" if one.state == State.OK else "dim"
        table.add_row(*numbers, Text(state, style=style))
    return table


def _fields(one: Standing) -> tuple[str, ...]:
    position = one.position
    state = one.sentence()
    if one.state == State.OTHER_TOPIC and position:
        state += f", the position is of {position.topic_id[:SHORT_ID]}"
    return (
        str(one.partition),
        str(position.next_offset) if position else "-",
        str(position.epoch) if position else "-",
        "{}..{}".format(*one.log) if one.log else "-",
        "-" if one.committed is None else str(one.committed),
        "-" if one.lag is None else str(one.lag),
        state,
    )


def _summary(standings: Sequence[Standing]) -> Iterator[str]:
    stopped = [one.partition for one in standings if one.state in GAPS]
    if stopped:
        names = ", ".join(map(str, stopped))
        yield f"{count(len(stopped), 'partition')} stopped by a gap: {names}"
        yield "`hookline positions accept-gap --partition N` says what going on would give up"
    else:
        waiting = sum(one.lag or 0 for one in standings)
        yield f"no gap; {count(waiting, 'record')} to apply"
