"""Processes by the hundred: real ones, forked from one that has loaded everything already.

A consumer that is started the usual way spends a second of CPU on its imports, half of what a
test of five hundred kills would take. A forked one has its own pid, session, log, connections
and exit code, and runs hookline's command from its `main` on.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ops.embedded.errors import EmbeddedError
from ops.embedded.guard import PR_SET_PDEATHSIG
from ops.embedded.processes import STOP_SECONDS, Process
from ops.up import Member
from support.pipeline import Pipeline
from support.polling import eventually
from support.ports import steady_port

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(
    [
        "consumer.app",
        "ingest.app",
        "ops.cli",
        "ops.servers",
        "confluent_kafka.admin",
        "sqlalchemy.dialects.postgresql.psycopg",
    ]
)

SESSION_SECONDS = 2
"""How long the brokers of tests/faults miss a member before they give its partitions away."""

GROUP = {
    "group.consumer.session.timeout.ms": str(SESSION_SECONDS * 1000),
    "group.consumer.min.session.timeout.ms": str(SESSION_SECONDS * 1000),
    "group.consumer.heartbeat.interval.ms": "300",
    "group.consumer.min.heartbeat.interval.ms": "300",
    "transaction.state.log.num.partitions": "1",
    "log.cleaner.backoff.ms": "200",
}
"""A member that is killed or stopped is missed after 2 s; it beats six times in that time."""

Limits = Mapping[str, object]
"""Constants of a consumer, `module.NAME`, that a test makes shorter."""

SHORT: Limits = {
    "consumer.storage.engine.LOCK_TIMEOUT_MS": 1_000,
    "consumer.storage.engine.STATEMENT_TIMEOUT_MS": 1_500,
    "consumer.storage.engine.IDLE_IN_TRANSACTION_MS": 2_000,
    "consumer.storage.locks.LOCK_SECONDS": 2,
}
"""The database's limits in the same order as in earnest, and the life of a lock in Redis."""


class Forked(Process):
    """A process of hookline that is forked; `limits` replace constants in it alone."""

    def __init__(
        self, name: str, folder: Path, environment: Mapping[str, str], limits: Limits
    ) -> None:
        super().__init__(name, folder)
        self._variables = dict(environment)
        self._limits = dict(limits)
        self._forked: ForkServerProcess | None = None

    @property
    def pid(self) -> int:
        """The process; raises EmbeddedError if it has ended."""
        if self._forked is None or self._forked.pid is None or not self._forked.is_alive():
            raise EmbeddedError(f"{self.name} does not run; see {self.log}")
        return self._forked.pid

    @property
    def exit_code(self) -> int | None:
        """The code it ended with, a signal as a negative number; None while it runs."""
        return None if self._forked is None else self._forked.exitcode

    def is_alive(self) -> bool:
        """Tell whether it runs; a stopped one does."""
        return self._forked is not None and self._forked.is_alive()

    def start(self, command: Sequence[str]) -> None:
        """Fork; does not wait for it to be ready."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._variables}
        self._forked = _fork.Process(
            target=_run, args=(environment, str(self.log), command[1:], self._limits)
        )
        self._forked.start()

    def terminate(self) -> None:
        """Ask it to end in order; does not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End it in order, or by force after 20 s; safe to repeat."""
        if self._forked is not None and self._forked.is_alive():
            os.kill(self.pid, signal.SIGCONT)
            self.terminate()
            self._forked.join(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it as a crash does, and wait until it is gone."""
        if self._forked is not None:
            self._forked.kill()
            self._forked.join()


@dataclass
class Fleet(Pipeline):
    """A deployment of forked processes: any number of `ingest…`, consumers under any other name."""

    limits: Limits = field(default_factory=dict)

    def spawn(self, name: str, failpoint: str = "", **variables: str) -> Forked:
        """Start a process without waiting for it; what ran under this name has ended."""
        command, setting = "consume", "HOOKLINE_CONSUMER_ADMIN_PORT"
        if name.startswith("ingest"):
            command, setting = "ingest", "HOOKLINE_INGEST_ADMIN_PORT"
        member = Member(name, command, steady_port(), setting, self.folder)
        own = {**self.variables, **variables, setting: str(member.port)}
        if failpoint:
            own["HOOKLINE_FAILPOINT"] = failpoint
        forked = Forked(name, self.folder, own, self.limits)
        member.process = forked
        self.members[name] = member
        member.spawn()
        return forked

    def forked(self, name: str) -> Forked:
        """Return a consumer's process."""
        process = self.members[name].process
        assert isinstance(process, Forked)
        return process

    def log(self, name: str) -> str:
        """Return what a consumer has logged so far, those of the same name before it included."""
        path = self.members[name].process.log
        return path.read_text() if path.exists() else ""

    def all_ready(self, seconds: float = 60) -> None:
        """Wait until every consumer is ready."""
        for member in self.members.values():
            eventually(member.answers, seconds, f"{member.name} being ready")

    def launch(self, name: str) -> Member:
        """Start a process without waiting for it."""
        if not name.startswith("consumer"):
            return super().launch(name)
        self.spawn(name)
        return self.members[name]


def is_stopped(pid: int) -> bool:
    """Tell whether a signal has stopped a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return fields[0] == "T"


def memory_of(pid: int) -> int:
    """Return the memory that a process holds, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _run(
    environment: Mapping[str, str], log: str, arguments: Sequence[str], limits: Limits
) -> None:
    """Become `hookline ARGUMENTS`; ends with the process that all are forked from."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    for path, value in limits.items():
        module, _, name = path.rpartition(".")
        found = import_module(module)
        assert hasattr(found, name), path
        setattr(found, name, value)
    sys.argv = ["hookline", *arguments]
    import_module("ops.cli").main()
