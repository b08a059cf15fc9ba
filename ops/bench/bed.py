"""The servers that everything is measured on, and for each run a database and topic to itself.

PostgreSQL writes to disk before it says that a transaction is committed (fsync is on, and the
bench refuses to run without), and notes the moment of each commit: that is what rates and
delays are read from, so that no process of hookline's is asked while it works.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr
from redis import Redis

from consumer.storage.partitions import attach_months
from consumer.storage.tiers import write_tiers
from ops.bench.processes import processor_seconds
from ops.bench.traffic import END, SECRET, Traffic
from ops.bench.writer import Writer
from ops.embedded.errors import EmbeddedError
from ops.embedded.ports import HOST, free_ports
from ops.embedded.processes import Process
from ops.embedded.stack import Ports, Stack
from ops.migrate import connect_for_migration, make_topic, upgrade
from ops.up import Member
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings, KafkaSettings

TEMPLATE = "bench_template"
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that holds some traffic."""

    name: str
    traffic: Traffic


@dataclass
class Deployment:
    """What one run has to itself: a database, a group, an empty Redis, a topic."""

    bed: "Bed"
    variables: dict[str, str]
    topic: Topic
    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)
    _processes: dict[str, Process] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        """Where the database is."""
        return self.variables["HOOKLINE_DATABASE_URL"]

    def member(self, name: str, command: str, **own: str) -> Member:
        """Start one of hookline's processes; it ends with the run. Does not wait."""
        kind = "CONSUMER" if command == "consume" else command.upper()
        setting = f"HOOKLINE_{kind}_ADMIN_PORT"
        (port,) = free_ports(1)
        member = Member(name, command, port, setting, self.folder, **{**self.variables, **own})
        self._stack.callback(member.stop)
        member.start_seconds = 120
        member.prepare()
        member.spawn()
        self._processes[name] = member.process
        return member

    def pid(self, name: str) -> int:
        """Return what the run started under this name; raises EmbeddedError if it has ended."""
        return self._processes[name].pid

    def processor_seconds(self) -> float:
        """Return the processor time of all that the run has started and that still works."""
        return sum(processor_seconds(one.pid) for one in self._processes.values() if one.is_alive())

    def process(self, name: str, command: list[str], **own: str) -> Process:
        """Start a process that is not hookline's; it ends with the run. Does not wait."""
        process = Process(name, self.folder, environment={**self.variables, **own})
        self._stack.callback(process.stop)
        process.start(command)
        self._processes[name] = process
        return process

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def execute(self, statement: str) -> None:
        """Change the database behind everybody's back."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute(statement.encode())

    def end_processes(self) -> None:
        """Stop what the run has started, in reverse order; safe to repeat."""
        self._stack.close()


class Bed:
    """Kafka, PostgreSQL and Valkey in a folder; use as a context. Raises EmbeddedError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._servers = Stack(self.folder, ports=Ports.free())
        self._topics: dict[str, Topic] = {}
        self._numbers = itertools.count(1)
        self._kept: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._servers.start()
        try:
            self._prepare()
        except BaseException:
            self._servers.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._stack.close()
        finally:
            self._servers.stop()

    @property
    def bootstrap(self) -> str:
        """Where Kafka is."""
        return self._servers.kafka.bootstrap

    @property
    def redis_url(self) -> str:
        """Where Redis is."""
        return self._servers.valkey.url

    def pids(self) -> dict[str, int]:
        """Return the servers' processes."""
        return {server.name: server.pid for server in self._servers.servers}

    def topic(self, traffic: Traffic) -> Topic:
        """Return a topic that holds this traffic, written once; blocks until the broker has it."""
        if traffic.name not in self._topics:
            topic = self.empty_topic(traffic)
            with self.writing(topic) as writer:
                for record in traffic.records():
                    writer.write(record)
            self._topics[traffic.name] = topic
        return self._topics[traffic.name]

    def empty_topic(self, traffic: Traffic) -> Topic:
        """Make a topic that this traffic is to be written to."""
        topic = Topic(f"bench-{next(self._numbers)}", traffic)
        make_topic(KafkaSettings(kafka_bootstrap=self.bootstrap, kafka_topic=topic.name))
        return topic

    @contextmanager
    def writing(self, topic: Topic) -> Iterator[Writer]:
        """Provide a writer; at the end the broker has acknowledged everything."""
        writer = Writer(self.bootstrap, topic.name)
        yield writer
        writer.flush()

    @contextmanager
    def deployment(
        self, topic: Topic, *, template: str = TEMPLATE, **own: str
    ) -> Iterator[Deployment]:
        """Provide everything that one run needs; dropped at its end, its processes before."""
        number = next(self._numbers)
        folder = self.folder / "runs" / str(number)
        folder.mkdir(parents=True)
        with self.database(f"bench_{number}", template) as url:
            self._flush_redis()
            deployment = Deployment(
                self,
                self._variables(topic, number, url) | own,
                topic,
                folder,
            )
            try:
                yield deployment
            finally:
                deployment.end_processes()

    @contextmanager
    def database(self, name: str, template: str = TEMPLATE) -> Iterator[str]:
        """Create a database, yield its URL, and drop it at the end."""
        self._admin("CREATE DATABASE {} TEMPLATE {}", name, template)
        try:
            yield self._url(name)
        finally:
            self._admin("DROP DATABASE {} WITH (FORCE)", name)

    def keep(self, name: str, make: Callable[[], AbstractContextManager[str]]) -> str:
        """Return what was made under this name, once and for as long as the servers run."""
        if name not in self._kept:
            self._kept[name] = self._stack.enter_context(make())
        return self._kept[name]

    def settings(self) -> dict[str, str]:
        """Return PostgreSQL's settings that decide what a commit costs."""
        names = [*DURABLE, "shared_buffers", "track_commit_timestamp", "server_version"]
        with psycopg.connect(self._servers.postgres.url) as connection:
            return {name: self._show(connection, name) for name in names}

    def _prepare(self) -> None:
        """Let PostgreSQL note the moment of each commit, and make the empty database."""
        with psycopg.connect(self._servers.postgres.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        self._servers.postgres.stop()
        self._servers.postgres.start()
        found = self.settings()
        if wrong := {k: found[k] for k, wanted in DURABLE.items() if found[k] != wanted}:
            raise EmbeddedError(f"PostgreSQL does not write to disk at a commit: {wrong}")
        self._admin("CREATE DATABASE {}", TEMPLATE)
        plans = load_plans(self._plans_file())
        url = SecretStr(self._url(TEMPLATE))
        with connect_for_migration(DatabaseSettings(database_url=url)) as connection:
            upgrade(connection)
            write_tiers(connection, plans)
            attach_months(connection, datetime.fromtimestamp(END, UTC).date())
            connection.commit()
            connection.invalidate()

    def _variables(self, topic: Topic, number: int, url: str) -> dict[str, str]:
        ingest, gatekeeper = free_ports(2)
        return {
            "HOOKLINE_KAFKA_BOOTSTRAP": self.bootstrap,
            "HOOKLINE_KAFKA_TOPIC": topic.name,
            "HOOKLINE_KAFKA_GROUP": f"bench-{number}",
            "HOOKLINE_DATABASE_URL": url,
            "HOOKLINE_REDIS_URL": self.redis_url,
            "HOOKLINE_WEBHOOK_SECRETS": SECRET,
            "HOOKLINE_LIVEMODE": "test",
            "HOOKLINE_PLANS_FILE": str(self._plans_file()),
            "HOOKLINE_GRACE_HOURS": "24",
            "HOOKLINE_INGEST_PORT": str(ingest),
            "HOOKLINE_GATEKEEPER_PORT": str(gatekeeper),
            "HOOKLINE_INGEST_URL": f"http://{HOST}:{ingest}",
            "HOOKLINE_GATEKEEPER_URL": f"http://{HOST}:{gatekeeper}",
        }

    def _plans_file(self) -> Path:
        path = self.folder / "plans.toml"
        if not path.exists():
            path.write_bytes(files("ops").joinpath("plans.sample.toml").read_bytes())
        return path

    def _flush_redis(self) -> None:
        with Redis.from_url(self.redis_url) as redis:
            redis.flushall()

    def _url(self, database: str) -> str:
        return urlunsplit(urlsplit(self._servers.postgres.url)._replace(path=f"/{database}"))

    def _admin(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._servers.postgres.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @staticmethod
    def _show(connection: psycopg.Connection, name: str) -> str:
        row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
        return str(row[0]) if row else ""
