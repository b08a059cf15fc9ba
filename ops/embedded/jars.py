"""Kafka's jars: fetched by jgo, held against the committed lock before each start.

jgo keeps no promise about what it downloaded, so names and hashes are compared here. Only jars
of the lock come on the class path. `python -m ops.embedded.jars` writes the lock anew.
"""

import hashlib
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.errors import EmbeddedError

LOCK = Path(__file__).with_name("jgo.lock.toml")
ENDPOINTS = ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36")
"""The broker, and a binding without which it would log nothing."""

ALTERNATIVE = (
    "start a Kafka of your own and name it in HOOKLINE_KAFKA_BOOTSTRAP, or use `docker compose up`"
)


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path = LOCK) -> list[Jar]:
    """Return the jars of the lock."""
    return [Jar(**entry) for entry in tomllib.loads(path.read_text())["jar"]]


def cache_folder() -> Path:
    """Return where jars are kept between runs: HOOKLINE_CACHE_DIR, else the user's cache."""
    own = os.environ.get("HOOKLINE_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hookline"


def provide_jars(folder: Path, jars: list[Jar], lock: Path = LOCK) -> list[Path]:
    """Return the paths of a lock's jars, each equal to the lock; fetch those that are missing.

    Raises EmbeddedError naming the jar that differs, or what is missing to fetch them.
    """
    if not all((folder / jar.name).is_file() for jar in jars):
        _fetch(folder, lock)
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda jar: _check(folder / jar.name, jar), jars))


def _check(path: Path, jar: Jar) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != jar.sha256:
        raise EmbeddedError(
            f"{path} is not the {jar.name} that this version was tested with "
            f"(SHA-256 {found[:12]}…, expected {jar.sha256[:12]}…): delete it and start again"
        )
    return path


def _fetch(folder: Path, lock: Path) -> None:
    """Fetch in a process of its own: jgo brings much that nobody else needs."""
    command = [sys.executable, "-W", "ignore", "-m", "ops.embedded.jars", str(folder), str(lock)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode != 0:
        why = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EmbeddedError(f"Kafka's jars cannot be fetched ({why}): {ALTERNATIVE}")


def download(folder: Path, lock: Path = LOCK) -> None:
    """Download the jars of a lock into a folder, each checked before it gets its name."""
    from jgo.maven import MavenContext  # noqa: PLC0415 - only the fetching process needs it

    context = MavenContext(repo_cache=folder / "maven", timeout=60)
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(jar: Jar) -> None:
        target = folder / jar.name
        if target.is_file():
            return
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        source = Path(component.artifact().resolve())
        try:
            _check(source, jar)
        except EmbeddedError:
            source.unlink()
            raise
        source.replace(target)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, read_lock(lock)))


def write_lock(folder: Path) -> None:
    """Resolve the endpoints anew and write the lock; for maintainers."""
    import jgo  # noqa: PLC0415 - only maintainers need it

    found = {(a.groupId, a.artifactId): a for point in ENDPOINTS for a in jgo.resolve(point)}
    comment = LOCK.read_text().split("[[jar]]")[0]
    entries = []
    for (group, artifact), found_artifact in sorted(found.items()):
        digest = hashlib.sha256(Path(found_artifact.resolve()).read_bytes()).hexdigest()
        fields = {
            "group": group,
            "artifact": artifact,
            "version": found_artifact.version,
            "sha256": digest,
        }
        entries.append("\n".join(["[[jar]]", *(f'{k} = "{v}"' for k, v in fields.items()), ""]))
    LOCK.write_text(comment + "\n".join(entries))
    download(folder)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        download(*map(Path, sys.argv[1:]))
    else:
        write_lock(cache_folder())
