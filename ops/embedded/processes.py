"""One server process that cannot outlive us unnoticed: log, pid file, start, stop, kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ops.embedded.errors import EmbeddedError

GUARD = Path(__file__).with_name("guard.py")
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
LOG_LINES = 8


class Process:
    """A program started through the guard; to be started from a thread that lives on.

    Its pid stands in a file with the process's start time, so that a later run finds what this
    one left behind and never ends a stranger who got the same number.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        user: str = "same",
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._user = user
        self._environment = environment
        self._stop_signal = stop_signal
        self._log = folder / "logs" / f"{name}.log"
        self._pid_file = _pid_file(folder, name)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file that holds the output."""
        return self._log

    @property
    def pid(self) -> int:
        """The running process; raises EmbeddedError if there is none."""
        if self._child is None or self._child.poll() is not None:
            raise EmbeddedError(f"{self.name} does not run; see {self._log}")
        return self._child.pid

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._child is not None and self._child.poll() is None

    def start(self, command: Sequence[str]) -> None:
        """Spawn the program; does not wait for it to be ready."""
        self.stop_left_over()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        guarded = [
            *(sys.executable, "-S", "-E", str(GUARD)),
            *(str(os.getpid()), self._user, str(int(self._stop_signal))),
            *command,
        ]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own command line
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if self._environment is None else {**os.environ, **self._environment},
                # A Ctrl-C at the terminal is for us: we stop the servers in order.
                start_new_session=True,
            )
        identity = {"pid": self._child.pid, "started": start_time(self._child.pid)}
        self._pid_file.write_text(json.dumps(identity))

    def wait_ready(self, is_ready: Callable[[], bool], seconds: float) -> None:
        """Poll until ready; raises EmbeddedError with the end of the log if it dies or is late."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not self.is_alive():
                raise EmbeddedError(f"{self.name} ended while it started:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.name} is not up after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the process in order, or by force after 20 s; safe to repeat.

        One that this object did not start is left alone.
        """
        child = self._child
        if child is None:
            return
        if child.poll() is None:
            child.send_signal(self._stop_signal)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the process as a crash does (SIGKILL), and wait until it is gone."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def stop_left_over(self) -> None:
        """End the process of an earlier run that was killed, if it lives on."""
        identity = _read_identity(self._pid_file)
        if identity is not None and start_time(identity.pid) == identity.started:
            _end(identity.pid, identity.started, self._stop_signal)
        self._pid_file.unlink(missing_ok=True)

    def tail(self) -> str:
        """Return the last lines of the log."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(lines[-LOG_LINES:]) or "(its log is empty)"


class _Identity(NamedTuple):
    pid: int
    started: str


def running_pid(folder: Path, name: str) -> int | None:
    """Return the process that runs under this name in a data folder, whoever started it."""
    identity = _read_identity(_pid_file(folder, name))
    if identity is None or start_time(identity.pid) != identity.started:
        return None
    return identity.pid


def _pid_file(folder: Path, name: str) -> Path:
    return folder / "run" / f"{name}.pid"


def _read_identity(pid_file: Path) -> _Identity | None:
    try:
        found = json.loads(pid_file.read_text())
        return _Identity(int(found["pid"]), str(found["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start_time(pid: int) -> str | None:
    """Return when a process started, in whatever unit the system has; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None if sys.platform == "linux" else _start_time_by_ps(pid)
    # A zombie whose other threads still end holds its ports until the last one is gone.
    state, threads, started = fields[0], int(fields[17]), fields[19]
    return None if state == "Z" and threads <= 1 else started


def _start_time_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None


def _end(pid: int, started: str, first: signal.Signals) -> None:
    for signum, seconds in ((first, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if start_time(pid) != started:
                return
            time.sleep(POLL_SECONDS)
