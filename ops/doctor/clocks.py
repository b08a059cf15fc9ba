"""The clocks of the servers against the one of this machine."""

from collections.abc import Callable, Iterator

from sqlalchemy import text

from ops.doctor.line import Line, ok, wrong
from ops.doctor.site import Site, redis_away

OFF_SECONDS = 1.0
"""Access ends within a second of the end of a grace period: clocks must agree that well."""

_NOW = text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS float8)")


def look_at_database_clock(site: Site) -> Iterator[Line]:
    """Compare PostgreSQL's clock with ours."""
    with site.engine.connect() as connection:
        connection.execute(_NOW)
        yield compare("PostgreSQL", site.clock, lambda: float(connection.scalar(_NOW) or 0))


def look_at_redis_clock(site: Site) -> Iterator[Line]:
    """Compare Redis' clock with ours."""

    def read() -> float:
        seconds, microseconds = site.redis.time()
        return float(seconds + microseconds / 1e6)

    with redis_away():
        yield compare("Redis", site.clock, read)


def compare(name: str, clock: Callable[[], float], read: Callable[[], float]) -> Line:
    """Compare a clock with ours, read before and after it."""
    before = clock()
    there = read()
    after = clock()
    doubt = (after - before) / 2
    off = there - (before + after) / 2
    if abs(off) - doubt <= OFF_SECONDS:
        return ok("clock", f"{name} and this machine are {abs(off):.3f} s apart")
    where = "ahead of" if off > 0 else "behind"
    return wrong(
        "clock",
        f"{name} is {abs(off):,.1f} s {where} this machine",
        "keep the clocks of all machines by NTP (timedatectl, chronyc tracking)",
    )
