"""How far the partitions are applied, as the doctor sees it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from ops.counting import count
from ops.doctor.line import Line, ok, wrong
from ops.doctor.site import Site
from ops.explain.words import duration
from ops.positions.reading import read_standings
from ops.positions.standing import GAPS, Standing, State

LATE = timedelta(seconds=60)


def look_at_positions(site: Site) -> Iterator[Line]:
    """Say which partitions are stopped, and what waits in the others and since when."""
    standings = read_standings(site.engine, site.settings)
    yield judge_gaps(standings)
    waits = [one for one in standings if one.lag and one.position]
    oldest = [
        record.timestamp
        for one in waits
        if one.position
        and (record := site.log.record_at(one.partition, one.position.next_offset)) is not None
    ]
    yield judge_lag(standings, min(oldest, default=None), datetime.fromtimestamp(site.clock(), UTC))


def judge_gaps(standings: Sequence[Standing]) -> Line:
    """Judge the positions against their logs."""
    stopped = [one for one in standings if one.state in GAPS]
    if stopped:
        first = stopped[0]
        rest = f", and {len(stopped) - 1} more" if len(stopped) > 1 else ""
        return wrong(
            "positions",
            f"partition {first.partition} is stopped by a gap{rest}: {first.sentence()}",
            f"hookline positions accept-gap --partition {first.partition}",
        )
    without = sum(one.state == State.NO_POSITION for one in standings)
    stored = len(standings) - without
    more = f", {without} never had a consumer" if without else ""
    return ok("positions", f"{count(stored, 'position')} within their logs{more}")


def judge_lag(standings: Sequence[Standing], oldest: datetime | None, now: datetime) -> Line:
    """Judge what waits, by the time of the oldest record."""
    waiting = sum(one.lag or 0 for one in standings)
    if oldest is None:
        return ok("lag", "nothing waits: every position is at the end of its log")
    fact = f"{count(waiting, 'record')} to apply, the oldest for {duration(now - oldest)}"
    if now - oldest > LATE:
        return wrong(
            "lag",
            fact,
            "look at /readyz of the consumers; where they work, start more of them",
        )
    return ok("lag", fact)
