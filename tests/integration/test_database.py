"""The tables: what migrations make is what the code believes, and writing in bulk is exact."""

import threading
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import text

from consumer.storage.engine import make_engine
from consumer.storage.partitions import attach_months
from consumer.storage.statements import find_recorded, write_events
from ops.migrate import MIGRATIONS, migrate
from schemas.settings import DatabaseSettings, MigrateSettings, load
from schemas.tables import metadata
from support.pipeline import PLANS_TEXT


def settings_of(url: str) -> DatabaseSettings:
    """Return the settings of a database."""
    return DatabaseSettings(database_url=SecretStr(url))


def event_row(event_id: str, created_at: datetime, **fields: object) -> dict[str, object]:
    """Return a row of webhook_events."""
    return {
        "event_id": event_id,
        "type": "invoice.paid",
        "customer_id": None,
        "created_at": created_at,
        "received_at": created_at,
        "livemode": False,
        "api_version": None,
        "outcome": "applied",
        "reason": None,
        "error": None,
        "topic": "t",
        "partition": 0,
        "kafka_offset": 1,
        "payload": b"\x00\xff",
    } | fields


def test_migrations_make_what_the_code_believes(database_url: str) -> None:
    """A migrated database equals schemas/tables.py, but for the monthly partitions."""
    engine = make_engine(settings_of(database_url), "test")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": lambda name, kind, _parents: (
                    kind != "table"
                    or not (name.startswith("webhook_events_") or name == "alembic_version")
                )
            },
        )
        assert compare_metadata(context, metadata) == []


def test_two_migrations_at_once_wait_for_each_other(
    servers: object, kafka_bootstrap: str, topic: str, tmp_path: Path, template: str
) -> None:
    """Any number of `hookline migrate` may run side by side on an empty database."""
    _ = template
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS_TEXT)
    url = servers.database_url  # type: ignore[attr-defined]
    settings = load(
        MigrateSettings,
        database_url=SecretStr(url),
        kafka_bootstrap=kafka_bootstrap,
        kafka_topic=topic,
        plans_file=plans,
    )
    newest = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate(settings)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (newest,)
        ]


def test_rows_in_bulk_keep_null_and_bytes(database_url: str) -> None:
    """A NULL stays NULL, bytes stay bytes, and a failed event is the only one judged again."""
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    with make_engine(settings_of(database_url), "test").begin() as connection:
        write_events(
            connection,
            [
                event_row("evt_1", moment, customer_id="cus_1"),
                event_row("evt_2", moment, outcome="failed", error="it raised"),
            ],
        )
        write_events(
            connection,
            [event_row("evt_1", moment, outcome="ignored"), event_row("evt_2", moment)],
        )
        rows = connection.execute(
            text(
                "SELECT event_id, customer_id, outcome, error, payload "
                "FROM webhook_events ORDER BY event_id"
            )
        ).all()
        assert [tuple(row) for row in rows] == [
            ("evt_1", "cus_1", "applied", None, b"\x00\xff"),
            ("evt_2", None, "applied", None, b"\x00\xff"),
        ]
        assert set(find_recorded(connection, {"evt_1": moment, "evt_3": moment})) == {"evt_1"}


def test_months_are_attached_once_and_hold_their_events(database_url: str) -> None:
    """Events of an attached month stand in its partition, all others in the default one."""
    with make_engine(settings_of(database_url), "test").begin() as connection:
        attached = attach_months(connection, date(2031, 11, 24))
        assert attached == [
            f"webhook_events_{month}" for month in ("2031_10", "2031_11", "2031_12", "2032_01")
        ]
        assert attach_months(connection, date(2031, 11, 25)) == []
        write_events(
            connection,
            [
                event_row("evt_now", datetime(2031, 11, 30, 23, 59, 59, tzinfo=UTC)),
                event_row("evt_next", datetime(2031, 12, 1, tzinfo=UTC)),
                event_row("evt_old", datetime(2019, 1, 1, tzinfo=UTC)),
            ],
        )
        rows = connection.execute(
            text("SELECT event_id, tableoid::regclass::text FROM webhook_events ORDER BY 1")
        ).all()
        assert [tuple(row) for row in rows] == [
            ("evt_next", "webhook_events_2031_12"),
            ("evt_now", "webhook_events_2031_11"),
            ("evt_old", "webhook_events_other"),
        ]


def test_a_month_with_events_in_the_default_partition_stays_there(database_url: str) -> None:
    """Attaching never fails and never loses an event that came before its partition."""
    with make_engine(settings_of(database_url), "test").begin() as connection:
        write_events(connection, [event_row("evt_1", datetime(2031, 12, 5, tzinfo=UTC))])
        attached = attach_months(connection, date(2031, 11, 24))
        assert "webhook_events_2031_12" not in attached
        assert len(attached) == 3
        assert connection.scalar(text("SELECT count(*) FROM webhook_events")) == 1
