"""`hookline up`: servers and hookline itself on this machine, watched until Ctrl-C."""

import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import httpx2 as httpx
from rich.console import Console

from ops.embedded.errors import EmbeddedError
from ops.embedded.files import write_private
from ops.embedded.ports import HOST, require_free
from ops.embedded.processes import Process
from ops.embedded.server import Server
from ops.embedded.stack import SERVERS, Ports, Stack
from ops.logs import configure
from ops.migrate import migrate
from schemas.settings import (
    PREFIX,
    ConsumerSettings,
    GatekeeperSettings,
    IngestSettings,
    MigrateSettings,
    load,
)

READY_SECONDS = 60.0
WATCH_SECONDS = 0.5
RESTART_SECONDS_MOST = 30.0
STEADY_SECONDS = 60.0

VARIABLES = {
    "kafka": "HOOKLINE_KAFKA_BOOTSTRAP",
    "postgresql": "HOOKLINE_DATABASE_URL",
    "valkey": "HOOKLINE_REDIS_URL",
}
"""Where one of these is set, that server is somebody else's."""

OWN_SERVERS = "HOOKLINE_EMBEDDED_SERVERS"
"""Stands in the env file: which servers `up` itself runs."""


def run_up(data_dir: Path, consumers: int) -> int:
    """Run everything until SIGINT or SIGTERM; returns the exit code, blocks.

    Data stays in `data_dir`. What ends by itself is started again, with a line that says so.
    Raises EmbeddedError, SettingsError, PlansError or TopicError while starting.
    """
    console = Console(highlight=False, soft_wrap=True)
    configure("warning", "up")
    # Both, for a shell's background job is born with SIGINT ignored.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
    began = time.monotonic()
    with ExitStack() as stack:
        try:
            up = Up(data_dir, consumers, console)
            stack.callback(up.stop)
            up.start()
            console.print(up.summary(time.monotonic() - began))
            up.watch()
        except KeyboardInterrupt:
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)
            console.print("stopping")
    console.print("stopped; the data stays in " + str(data_dir))
    return 0


class Member(Server):
    """One process of hookline; its port is the admin port."""

    start_seconds = READY_SECONDS

    def __init__(
        self, name: str, command: str, port: int, setting: str, folder: Path, **own: str
    ) -> None:
        self.name = name
        self.port = port
        self.process = Process(name, folder, environment={**own, setting: str(port)})
        self._command = [*own_command(), command]
        self._setting = setting

    def prepare(self) -> None:
        """End what an earlier run left behind; raises EmbeddedError if the port is taken."""
        self.process.stop_left_over()
        require_free(self.port, f"the admin port of {self.name}", self._setting)

    def spawn(self) -> None:
        """Start it; does not wait."""
        self.process.start(self._command)

    def answers(self) -> bool:
        """Tell whether `/readyz` says so."""
        try:
            answer = httpx.get(f"http://{HOST}:{self.port}/readyz", timeout=2)
        except httpx.HTTPError:
            return False
        return answer.is_success


@dataclass(slots=True)
class Watch:
    """One thing to keep alive: how often it ended of late, and when to start it again."""

    subject: Server
    failures: int = 0
    not_before: float = 0.0
    started_at: float = field(default_factory=time.monotonic)


class Up:
    """The servers and processes of one data folder."""

    def __init__(self, data_dir: Path, consumers: int, console: Console) -> None:
        self._data_dir = data_dir.resolve()
        self._console = console
        self._consumers = consumers
        own = _own_servers(self._data_dir / "env")
        self._stack = Stack(
            self._data_dir, ports=_ports_from_environment(), only=own, on_progress=self._say
        )
        self._own = own
        self._members: list[Member] = []

    def start(self) -> None:
        """Start servers, migrate, start processes, write the env file; waits until all is ready."""
        self._stack.start()
        environment = self._environment()
        os.environ.update(environment)
        migrate(load(MigrateSettings))
        self._say("migrate", "database and topic are up to date")
        self._members = self._build_members(environment)
        for member in self._members:
            member.prepare()
        self._check_public_ports()
        for member in self._members:
            member.spawn()
        for member in self._members:
            member.wait_ready()
            self._say(member.name, f"ready, admin port {member.port}")
        write_private(self._data_dir / "env", _env_file(environment))

    def stop(self) -> None:
        """Stop intake first, then consumers, then the servers; safe to repeat."""
        for member in self._members:
            member.stop()
        self._stack.stop()

    def watch(self) -> None:
        """Start again what ends by itself; returns only by KeyboardInterrupt."""
        watches = [Watch(server) for server in [*self._stack.servers, *self._members]]
        while True:
            for watch in watches:
                self._keep_alive(watch)
            time.sleep(WATCH_SECONDS)

    def summary(self, seconds: float) -> str:
        """Return what a person needs to know now."""
        env = self._data_dir / "env"
        return (
            f"\nready after {seconds:.1f} s\n"
            f"  webhooks      {os.environ['HOOKLINE_INGEST_URL']}/webhooks/stripe\n"
            f"  entitlements  {os.environ['HOOKLINE_GATEKEEPER_URL']}"
            "/v1/customers/cus_…/entitlement\n"
            f"  settings      set -a; . {shlex.quote(str(env))}; set +a\n"
            f"  logs          {self._data_dir / 'logs'}\n"
            "Ctrl-C stops everything."
        )

    def _say(self, name: str, text: str) -> None:
        self._console.print(f"{name:<12} {text}")

    def _keep_alive(self, watch: Watch) -> None:
        now = time.monotonic()
        if watch.subject.is_alive():
            if now - watch.started_at > STEADY_SECONDS:
                watch.failures = 0
            return
        if watch.not_before == 0.0:
            pause = min(2.0**watch.failures, RESTART_SECONDS_MOST)
            watch.not_before = now + pause
            self._say(
                watch.subject.name,
                f"ended by itself, see {watch.subject.process.log}; again in {pause:.0f} s",
            )
        if now < watch.not_before:
            return
        watch.failures += 1
        watch.not_before = 0.0
        try:
            watch.subject.start()
        except EmbeddedError as error:
            why = str(error).splitlines()[0].rstrip(":")
            self._say(watch.subject.name, f"does not start: {why}")
            return
        watch.started_at = time.monotonic()
        self._say(watch.subject.name, "runs again")

    def _environment(self) -> dict[str, str]:
        """Return every setting that this run uses: the person's own, else ours."""
        defaults = {
            "HOOKLINE_KAFKA_BOOTSTRAP": self._stack.kafka.bootstrap,
            "HOOKLINE_KAFKA_TOPIC": "stripe.events",
            "HOOKLINE_KAFKA_GROUP": "hookline",
            "HOOKLINE_DATABASE_URL": self._stack.postgres.url if "postgresql" in self._own else "",
            "HOOKLINE_REDIS_URL": self._stack.valkey.url,
            "HOOKLINE_WEBHOOK_SECRETS": self._webhook_secret(),
            "HOOKLINE_LIVEMODE": "test",
            "HOOKLINE_PLANS_FILE": str(self._plans_file()),
            "HOOKLINE_GRACE_HOURS": "24",
            "HOOKLINE_INGEST_PORT": "8080",
            "HOOKLINE_INGEST_ADMIN_PORT": "9080",
            "HOOKLINE_GATEKEEPER_PORT": "8081",
            "HOOKLINE_GATEKEEPER_ADMIN_PORT": "9081",
            "HOOKLINE_CONSUMER_ADMIN_PORT": "9082",
        }
        given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        found = defaults | given
        for name in self._own:
            found[VARIABLES[name]] = defaults[VARIABLES[name]]
        found[OWN_SERVERS] = ",".join(self._own)
        found["HOOKLINE_INGEST_URL"] = f"http://{HOST}:{found['HOOKLINE_INGEST_PORT']}"
        found["HOOKLINE_GATEKEEPER_URL"] = f"http://{HOST}:{found['HOOKLINE_GATEKEEPER_PORT']}"
        return found

    def _webhook_secret(self) -> str:
        """Return the secret of this folder, made once: what was signed with it stays valid."""
        path = self._data_dir / "webhook_secret"
        if not path.exists():
            write_private(path, f"whsec_{secrets.token_urlsafe(24)}")
        return path.read_text().strip()

    def _plans_file(self) -> Path:
        path = self._data_dir / "plans.toml"
        if not path.exists():
            path.write_bytes(files("ops").joinpath("plans.sample.toml").read_bytes())
        return path

    def _build_members(self, environment: Mapping[str, str]) -> list[Member]:
        first = load(ConsumerSettings).consumer_admin_port
        planned = [
            ("ingest", "ingest", load(IngestSettings).ingest_admin_port, "INGEST"),
            *(
                (f"consumer-{number + 1}", "consume", first + number, "CONSUMER")
                for number in range(self._consumers)
            ),
            (
                "gatekeeper",
                "gatekeeper",
                load(GatekeeperSettings).gatekeeper_admin_port,
                "GATEKEEPER",
            ),
        ]
        return [
            Member(name, command, port, f"{PREFIX}{kind}_ADMIN_PORT", self._data_dir, **environment)
            for name, command, port, kind in planned
        ]

    def _check_public_ports(self) -> None:
        ingest, gatekeeper = load(IngestSettings), load(GatekeeperSettings)
        require_free(ingest.ingest_port, "ingest", "HOOKLINE_INGEST_PORT")
        require_free(gatekeeper.gatekeeper_port, "the gatekeeper", "HOOKLINE_GATEKEEPER_PORT")


def own_command() -> list[str]:
    """Return how to run this very installation's command."""
    beside = Path(sys.executable).with_name("hookline")
    found = str(beside) if beside.is_file() else shutil.which("hookline")
    return [found] if found else [sys.executable, "-m", "ops.cli"]


def _own_servers(env_file: Path) -> list[str]:
    """Return the servers to run here: those that no variable names as somebody else's.

    A shell that has read the env file of an earlier run names our own servers; they stay ours.
    """
    written = read_env_file(env_file)
    ours = written.get(OWN_SERVERS, "").split(",")
    return [
        name
        for name in SERVERS
        if (given := os.environ.get(VARIABLES[name])) is None
        or (name in ours and given == written.get(VARIABLES[name]))
    ]


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of an env file that `up` wrote; none where there is no file."""
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in shlex.split(path.read_text()))
    return {name: value for name, _, value in pairs}


def _ports_from_environment() -> Ports:
    """Return the servers' ports; HOOKLINE_EMBEDDED_…_PORT moves one."""
    names = {
        "kafka": "HOOKLINE_EMBEDDED_KAFKA_PORT",
        "controller": "HOOKLINE_EMBEDDED_CONTROLLER_PORT",
        "postgres": "HOOKLINE_EMBEDDED_POSTGRES_PORT",
        "valkey": "HOOKLINE_EMBEDDED_VALKEY_PORT",
    }
    given = {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}
    for key, value in given.items():
        if not value.isdigit():
            raise EmbeddedError(f"{names[key]}: {value} is not a port")
    return Ports(**{key: int(value) for key, value in given.items()})


def _env_file(environment: Mapping[str, str]) -> str:
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
    return "".join(lines)
