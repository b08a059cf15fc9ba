"""The hookline that the demo runs against: what runs already, else one of its own."""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path

import httpx2 as httpx

from ops.embedded.ports import HOST
from ops.embedded.processes import Process
from ops.embedded.stack import is_in_use
from ops.up import own_command, read_env_file
from ops.usage import UsageError

START_SECONDS = 180.0
"""For a first start, which fetches Kafka's jars."""

ATTACH_SECONDS = 30.0
ADMIN_PORTS = (
    "HOOKLINE_INGEST_ADMIN_PORT",
    "HOOKLINE_GATEKEEPER_ADMIN_PORT",
    "HOOKLINE_CONSUMER_ADMIN_PORT",
)

NEWS = re.compile(r"(kafka|postgresql|valkey|migrate|ingest|gatekeeper|consumer-\d+) ")
"""How a line of `up` begins that tells of a server or process; the rest is for its own reader."""

Say = Callable[[str], None]


@dataclass
class Deployment:
    """A running hookline; `folder` is the one of its `up`, None where it is run otherwise."""

    variables: Mapping[str, str]
    folder: Path | None
    is_own: bool = False
    _news: "_Tail | None" = field(default=None, repr=False)

    @property
    def gatekeeper_url(self) -> str:
        """Where entitlements are answered."""
        return self.variables["HOOKLINE_GATEKEEPER_URL"]

    def admin_ports(self) -> list[int]:
        """Return the admin ports of all processes that answer now."""
        names = ("HOOKLINE_INGEST_ADMIN_PORT", "HOOKLINE_GATEKEEPER_ADMIN_PORT")
        ports = [int(self.variables[name]) for name in names if name in self.variables]
        return [port for port in ports if is_alive(port)] + self.consumer_ports()

    def consumer_ports(self) -> list[int]:
        """Return the admin ports of the consumers that answer now, counting upwards."""
        first = self.variables.get("HOOKLINE_CONSUMER_ADMIN_PORT")
        return [] if first is None else list(takewhile(is_alive, count(int(first))))

    def news(self) -> list[str]:
        """Return what has happened to a server or process since the last call."""
        return self._news.read() if self._news is not None else []


@contextmanager
def find_or_start(data_dir: Path, say: Say) -> Iterator[Deployment]:
    """Provide the deployment that runs in this folder, that the environment names, or a new one.

    One that was started here is stopped at the end. Sets the deployment's variables in the
    environment. Raises EmbeddedError with the end of the log if it does not start, UsageError if
    what runs is not ready.
    """
    named = os.environ.get("HOOKLINE_INGEST_URL")
    if is_in_use(data_dir):
        say(f"using what runs in {data_dir}")
        yield _enter(_attach(data_dir))
    elif named is not None and answers(named):
        own = {name: value for name, value in os.environ.items() if name.startswith("HOOKLINE_")}
        say(f"using what runs at {named}")
        yield _enter(Deployment(own, None))
    else:
        yield from _start(data_dir, say)


def _attach(data_dir: Path) -> Deployment:
    """Wait for what runs in a folder, which may have been started a moment ago."""
    variables = read_env_file(data_dir / "env")
    ports = [int(variables[name]) for name in ADMIN_PORTS if name in variables]
    if len(ports) < len(ADMIN_PORTS) or not wait_until_ready(ports, ATTACH_SECONDS):
        raise UsageError(
            f"what runs in {data_dir} is not ready: look at /readyz on its admin ports "
            f"{', '.join(map(str, ports)) or '(none is known yet)'}; the demo needs ingest, "
            "a consumer and the gatekeeper"
        )
    return Deployment(variables, data_dir)


def _start(data_dir: Path, say: Say) -> Iterator[Deployment]:
    process = Process("up", data_dir.resolve())
    env_file = data_dir / "env"
    before = _modified(env_file)
    log = _Tail(process.log)
    process.start([*own_command(), "up", "--data-dir", str(data_dir)])

    def is_ready() -> bool:
        for line in log.read():
            say(line)
        return _modified(env_file) != before

    try:
        process.wait_ready(is_ready, START_SECONDS)
        yield _enter(Deployment(read_env_file(env_file), data_dir, is_own=True, _news=log))
    finally:
        process.stop()


def _enter(deployment: Deployment) -> Deployment:
    os.environ.update(deployment.variables)
    return deployment


def answers(url: str) -> bool:
    """Tell whether anything speaks HTTP at a URL."""
    try:
        httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return False
    return True


def is_alive(port: int) -> bool:
    """Tell whether a process of hookline's serves this admin port."""
    return _status(port, "healthz") == httpx.codes.OK


def is_ready(port: int) -> bool:
    """Tell whether the process of this admin port, and all that it needs, works."""
    return _status(port, "readyz") == httpx.codes.OK


def wait_until_ready(ports: list[int], seconds: float) -> bool:
    """Wait until all processes are ready; returns whether they were in time."""
    deadline = time.monotonic() + seconds
    while not all(map(is_ready, ports)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _status(port: int, path: str) -> int:
    try:
        return httpx.get(f"http://{HOST}:{port}/{path}", timeout=2).status_code
    except httpx.HTTPError:
        return 0


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


class _Tail:
    """Reads the news that `up` appends to its log from now on, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.stat().st_size if path.exists() else 0

    def read(self) -> list[str]:
        """Return the whole lines added since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._place)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [line for line in lines if NEWS.match(line)]
