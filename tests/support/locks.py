"""What pyproject.toml asks for and what the lock files pin."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

MAIN = "requirements.lock"
IMAGE = "ops/docker/requirements.lock"
IMAGE_TOOLS = "ops/docker/build.lock"

PIN = re.compile(r"^([a-z0-9.-]+)(?:\[.*\])?==([^ ;]+)", re.MULTILINE)


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(path: str) -> dict[str, str]:
    """Return what a lock file pins: name and version."""
    return dict(PIN.findall((ROOT / path).read_text()))


def names(requirements: list[str]) -> set[str]:
    """Return the normalized names of requirements."""
    found = (re.split(r"[\[>=<; ]", requirement, maxsplit=1)[0] for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


def extras() -> set[str]:
    """Return the names that only the project's extras ask for."""
    optional: dict[str, list[str]] = project()["project"]["optional-dependencies"]
    return set[str]().union(*map(names, optional.values()))
