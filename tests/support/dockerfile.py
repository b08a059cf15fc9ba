"""Carries out a Dockerfile's own steps without an engine.

A stage is a folder; `/opt` in a step is that folder's. The base image's Python is a clean virtual
environment beside it. What makes an image run is recorded, not carried out: USER, LABEL and such.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from docker.utils.build import exclude_paths

OWN = re.compile(r"(?<![\w./])/opt\b")
RECORDED = {"USER", "LABEL", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def let_through(context: Path, ignore: Path) -> list[Path]:
    """Return the files of a context that its .dockerignore lets through, relative to it."""
    lines = ignore.read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    found = exclude_paths(str(context), patterns)
    return sorted(Path(path) for path in found if (context / path).is_file())


class Image:
    """What a Dockerfile makes of a context."""

    def __init__(self, folder: Path, context: Path) -> None:
        self.root = folder / "image"
        self.records: dict[str, str] = {}
        self._base = folder / "base"
        self._stages = folder / "stages"
        self._context = context
        self._stage = ""
        self._workdir = "/"
        self._variables: dict[str, str] = {}

    def build(self, dockerfile: Path) -> None:
        """Carry out all steps; blocks, asks the package registry."""
        subprocess.run([sys.executable, "-m", "venv", self._base], check=True)  # noqa: S603
        for word, rest in read_steps(dockerfile.read_text()):
            self._carry_out(word, rest)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the image's entrypoint, with the image's variables and no others but those given."""
        entrypoint = json.loads(self.records["ENTRYPOINT"])
        return self.execute(*entrypoint, *arguments, **variables)

    def execute(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside the image."""
        search = self._environment()["PATH"]
        program = shutil.which(command[0], path=search)
        assert program is not None, f"{command[0]} is not in the image"
        return subprocess.run(  # noqa: S603 - a command of the image
            [program, *command[1:]],
            cwd=self._path(self._workdir),
            env=self._variables | {"PATH": search} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def _carry_out(self, word: str, rest: str) -> None:
        match word:
            case "FROM":
                self._begin(rest)
            case "WORKDIR":
                self._workdir = rest
                self._path(rest).mkdir(parents=True, exist_ok=True)
            case "ENV":
                self._set(rest)
            case "COPY":
                self._copy(rest.split())
            case "RUN":
                self._run(rest)
            case _:
                assert word in RECORDED, f"a Dockerfile step that nobody has thought of: {word}"
                self.records[word] = rest

    def _begin(self, rest: str) -> None:
        """Put the last stage aside; its paths stay valid in the next, which copies from it."""
        if self.root.exists():
            self._stages.mkdir(exist_ok=True)
            self.root.rename(self._stages / self._stage)
        self.root.mkdir()
        self._stage = rest.rpartition(" AS ")[2]
        self._workdir, self._variables, self.records = "/", {}, {}

    def _set(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            search = self._environment()["PATH"]
            self._variables[name] = self._inside(value).replace("$PATH", search)

    def _copy(self, words: list[str]) -> None:
        source = self._context
        if words[0].startswith("--from="):
            source = self._stages / words.pop(0).removeprefix("--from=")
        *names, target = words
        for name in names:
            found = source / name.lstrip("/")
            into = self._path(target)
            if found.is_dir():
                shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True)
            else:
                place = into / found.name if target.endswith("/") else into
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, place)

    def _run(self, rest: str) -> None:
        subprocess.run(  # noqa: S603 - the Dockerfile's own step
            ["/bin/sh", "-ec", self._inside(rest)],
            cwd=self._path(self._workdir),
            env=dict(_outside()) | self._environment(),
            check=True,
        )

    def _environment(self) -> dict[str, str]:
        search = f"{self._base / 'bin'}{os.pathsep}{os.defpath}"
        return {"PATH": search} | self._variables

    def _path(self, path: str) -> Path:
        return self.root / self._workdir.lstrip("/") / path if path[0] != "/" else self._own(path)

    def _own(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _inside(self, text: str) -> str:
        return OWN.sub(str(self.root / "opt"), text)


def read_steps(text: str) -> Iterator[tuple[str, str]]:
    """Return the steps of a Dockerfile: word and the rest of the line, continued lines joined."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


def _outside() -> Mapping[str, str]:
    """Return what a build has from its machine: how to reach a registry, nothing of ours."""
    mine = ("HOOKLINE_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}
