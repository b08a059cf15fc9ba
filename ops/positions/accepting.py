"""`hookline positions accept-gap`: says what going on gives up, and does so if told to."""

from collections.abc import Sequence

from rich.console import Console
from sqlalchemy import Engine

from consumer.storage.engine import make_engine
from consumer.storage.positions import Position, lock_rows, reset_row
from ops.positions.reading import read_standings
from ops.positions.standing import GAPS, Standing, consequences, target_of
from ops.usage import UsageError
from schemas.settings import PositionsSettings


def run(
    settings: PositionsSettings, *, partition: int | None, everything: bool, to: str, yes: bool
) -> int:
    """Say what accepting a gap means, and do it if told to; return 0.

    Blocks. Writes all partitions or none. Raises UsageError, Retry or sqlalchemy's DBAPIError.
    """
    if (partition is not None) == everything:
        raise UsageError("say which: --partition N or --all, one of these")
    engine = make_engine(settings, "positions")
    standings = read_standings(engine, settings)
    chosen = [one for one in standings if one.state in GAPS and partition in {None, one.partition}]
    if partition is not None and not chosen:
        raise UsageError(_no_gap(standings, partition))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not chosen:
        console.print("No partition is stopped by a gap.")
        return 0
    moves = [(one.position, target_of(one, to)) for one in chosen if one.position]
    for standing, (_, target) in zip(chosen, moves, strict=True):
        for line in consequences(standing, target):
            console.print(line)
    if not yes:
        console.print("Nothing was written; --yes does it.")
        return 0
    accept(engine, settings, moves)
    console.print("Written. Consumers go on there within seconds; none needs a restart.")
    return 0


def accept(
    engine: Engine, settings: PositionsSettings, moves: Sequence[tuple[Position, Position]]
) -> None:
    """Set these positions anew under their row locks, all or none.

    Raises UsageError if one is not what was looked at any more.
    """
    group, topic = settings.kafka_group, settings.kafka_topic
    with engine.begin() as connection:
        lock_rows(connection, group, topic, [before.partition for before, _ in moves])
        for before, after in moves:
            if not reset_row(connection, group, topic, before, after):
                raise UsageError(
                    f"the position of partition {before.partition} has changed meanwhile, nothing "
                    "was written: look again with `hookline positions show`"
                )


def _no_gap(standings: Sequence[Standing], partition: int) -> str:
    for one in standings:
        if one.partition == partition:
            return f"partition {partition} is not stopped by a gap: {one.sentence()}"
    return f"the topic has no partition {partition}"
