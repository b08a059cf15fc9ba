"""What the doctor asks PostgreSQL: itself, its tables, its clock."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from consumer.storage.partitions import month_name
from ops.doctor.line import Line, ok, wrong
from ops.doctor.site import Site, place_of, timed
from ops.migrate import MIGRATIONS

LEAST_VERSION = 15
FULL = 0.9

_ABOUT = text("""
SELECT current_setting('server_version') AS version,
  CAST(current_setting('server_version_num') AS int) / 10000 AS major,
  pg_is_in_recovery() AS is_standby,
  current_setting('default_transaction_read_only') = 'on' AS is_read_only,
  current_setting('server_encoding') AS encoding
""")
_CONNECTIONS = text("""
SELECT CAST(sum(numbackends) AS int) AS used,
  CAST(current_setting('max_connections') AS int) AS most
FROM pg_stat_database
""")
_TABLE_EXISTS = text("SELECT to_regclass(:name) IS NOT NULL")
_REVISION = text("SELECT version_num FROM alembic_version")


def look_at_database(site: Site) -> Iterator[Line]:
    """Say what PostgreSQL is, and what it is not."""
    where = place_of(site.settings.database_url.get_secret_value())
    with site.engine.connect() as connection:
        found, how = timed(lambda: connection.execute(_ABOUT).one())
        used, most = connection.execute(_CONNECTIONS).one()
    fact = f"{found.version} at {where} (HOOKLINE_DATABASE_URL), {how}"
    for is_wrong, what, mend in (
        (
            found.major < LEAST_VERSION,
            f"older than {LEAST_VERSION}",
            f"upgrade it to {LEAST_VERSION} or newer",
        ),
        (found.is_standby, "a standby, which takes no writes", "name the primary"),
        (found.is_read_only, "read only", "ALTER SYSTEM RESET default_transaction_read_only"),
        (found.encoding != "UTF8", f"of encoding {found.encoding}", "make the database in UTF8"),
    ):
        if is_wrong:
            yield wrong("postgresql", f"{fact}, is {what}", f"{mend}: HOOKLINE_DATABASE_URL")
            return
    yield ok("postgresql", fact)
    yield judge_connections(used, most)


def judge_connections(used: int, most: int) -> Line:
    """Judge how many of PostgreSQL's connections are taken."""
    fact = f"{used} of {most} connections in use"
    if used > FULL * most:
        return wrong("connections", fact, "raise max_connections, or put a pool in front")
    return ok("connections", fact)


def look_at_migrations(site: Site) -> Iterator[Line]:
    """Say at which migration the database is, and whether the months ahead have their tables."""
    with site.engine.connect() as connection:
        line = judge_revision(_revision(connection), known_revisions())
        yield line
        if not line.blocks:
            yield _look_at_months(connection, datetime.now(UTC).date())


def known_revisions() -> list[str]:
    """Return the migrations of this version, the newest first."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def judge_revision(found: str | None, known: list[str]) -> Line:
    """Hold the database's migration against those of this version."""
    needed = known[0]
    if found == needed:
        return ok("migrations", f"the database is at {found}, the newest of this version")
    if found is None:
        return wrong("migrations", "the database has no tables", "hookline migrate", blocks=True)
    if found not in known:
        return wrong(
            "migrations",
            f"the database is at {found}, which this version does not know",
            "install the version of hookline that migrated it",
            blocks=True,
        )
    what = f"the database is at {found}, this version needs {needed}"
    return wrong("migrations", what, "hookline migrate", blocks=True)


def _revision(connection: Connection) -> str | None:
    if not connection.scalar(_TABLE_EXISTS, {"name": "alembic_version"}):
        return None
    found = connection.scalar(_REVISION)
    return None if found is None else str(found)


def _look_at_months(connection: Connection, today: date) -> Line:
    following = date(today.year + today.month // 12, today.month % 12 + 1, 1)
    missing = [
        f"{month:%Y-%m}"
        for month in (today.replace(day=1), following)
        if not connection.scalar(_TABLE_EXISTS, {"name": month_name(month)})
    ]
    if missing:
        what = f"events of {' and '.join(missing)} have no table of their own"
        return wrong("months", what, "hookline migrate; consumers attach months once a day")
    return ok("months", f"events have a table a month, made ahead to {following:%Y-%m} at least")
