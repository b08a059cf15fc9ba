"""Consumers and the gatekeeper behind PgBouncer in transaction mode, as the README sets it up."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from ops.embedded.ports import HOST, free_ports, is_listening
from support.load import check_outcome, histories, shuffled
from support.pipeline import Pipeline, log_of, recorded
from support.polling import eventually
from support.programs import environment, find_program

SETTINGS = """
[databases]
{name} = host={host} port={port} dbname={name} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = options,extra_float_digits
"""
LIMITS = {
    "statement_timeout": "5s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
}


@contextmanager
def pooled(folder: Path, url: str) -> Iterator[str]:
    """Run PgBouncer before a database; yields the URL through it."""
    parts, (listen,) = urlsplit(url), free_ports(1)
    name = parts.path.strip("/")
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            name=name, host=parts.hostname, port=parts.port, user=parts.username,
            password=parts.password, listen=listen,
        )
    )  # fmt: skip
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a program that make tools fetched
            [str(find_program("pgbouncer")), *user, str(settings)],
            env=environment(), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        eventually(lambda: is_listening(listen), what="PgBouncer's port")
        yield f"postgresql://{parts.username}:any@{HOST}:{listen}/{name}"
    finally:
        process.terminate()
        process.wait(20)


def test_a_pool_by_transaction_serves_consumers_and_gatekeeper(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """With the limits set for the database, everything comes out as it must, by four sessions."""
    direct = pipeline.variables["HOOKLINE_DATABASE_URL"]
    name = sql.Identifier(urlsplit(direct).path.strip("/"))
    with psycopg.connect(direct, autocommit=True) as connection:
        for setting, value in LIMITS.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    name, sql.Identifier(setting), sql.Literal(value)
                )
            )
    known = histories(10, "pool")
    with pooled(tmp_path, direct) as url:
        behind = Pipeline(pipeline.folder, {**pipeline.variables, "HOOKLINE_DATABASE_URL": url})
        behind.start("ingest", "gatekeeper", "consumer-1", "consumer-2")
        try:
            assert set(behind.post_all(shuffled(known, copies=2))) == {200}
            events = sum(len(one.events) for one in known)
            eventually(lambda: recorded(pipeline) == events, 60, "applying all")
            check_outcome(behind, known)
            for process in ("consumer-1", "consumer-2", "gatekeeper"):
                assert "prepared statement" not in log_of(behind, process)
            sessions = pipeline.query(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            )
            assert sessions[0][0] <= 4
        finally:
            behind.stop()


@pytest.mark.parametrize("process", ["consumer-1"])
def test_a_pool_without_the_limits_is_refused(
    pipeline: Pipeline, tmp_path: Path, process: str
) -> None:
    """Where the limits do not reach the sessions, the process says so and which setting it is."""
    with pooled(tmp_path, pipeline.variables["HOOKLINE_DATABASE_URL"]) as url:
        behind = Pipeline(pipeline.folder, {**pipeline.variables, "HOOKLINE_DATABASE_URL": url})
        member = behind.launch(process)
        try:
            eventually(lambda: not member.is_alive(), 60, "leaving")
            assert "HOOKLINE_DATABASE_URL leads through a pool" in log_of(behind, process)
        finally:
            behind.stop()
