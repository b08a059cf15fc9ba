"""Databases for tests: one that is migrated, and a clone of it for each test."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr

from consumer.storage.partitions import attach_months
from ops.migrate import connect_for_migration, upgrade
from schemas.settings import DatabaseSettings
from support.servers import Servers

DISK_FULL = """
CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
CREATE TRIGGER disk_full BEFORE INSERT ON billing_audit
  FOR EACH STATEMENT EXECUTE FUNCTION disk_full();
"""
"""Let every batch fail as on a full disk; `DROP FUNCTION disk_full CASCADE` makes room."""


@contextmanager
def database(servers: Servers, name: str, template: str = "template1") -> Iterator[str]:
    """Create a database, yield its URL, and drop it at the end."""
    _run(servers.database_url, "CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))
    finally:
        _run(servers.database_url, "DROP DATABASE {} WITH (FORCE)", name)


@contextmanager
def migrated(servers: Servers, name: str) -> Iterator[str]:
    """Create a database as `hookline migrate` does, without tiers; yield its name, to be cloned."""
    with database(servers, name) as url:
        settings = DatabaseSettings(database_url=SecretStr(url))
        with connect_for_migration(settings) as connection:
            upgrade(connection)
            attach_months(connection, datetime.now(UTC).date())
            connection.commit()
        yield name


def _run(admin_url: str, statement: str, *names: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
