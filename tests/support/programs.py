"""Other people's programs that tests run: where they are, and what becomes of a test without."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from support.locks import ROOT

TOOLS = ROOT / ".venv" / "tools"
"""What `make tools` fetched."""

LIBRARIES = TOOLS / "usr" / "lib" / "x86_64-linux-gnu"
_PLACES = [TOOLS / "bin", TOOLS / "usr" / "bin", TOOLS / "usr" / "sbin"]


def find_program(name: str) -> Path:
    """Return where a program is: fetched by `make tools`, else on PATH.

    Skips the test where there is none, and fails it in CI.
    """
    path = os.pathsep.join([*map(str, _PLACES), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        do_without(name, "fetch it with: make tools")
    return Path(found)


def find_file(name: str) -> Path:
    """Return a file of somebody else's that `make tools` fetched; without, as find_program."""
    path = TOOLS / "files" / name
    if not path.is_file():
        do_without(name, "fetch it with: make tools")
    return path


def environment() -> dict[str, str]:
    """Return the environment in which a fetched program finds its fetched libraries."""
    return os.environ | {"LD_LIBRARY_PATH": str(LIBRARIES)}


def do_without(what: str, why: str) -> NoReturn:
    """Skip the test on a laptop, and fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no {what}: {why}")
    pytest.skip(f"no {what}: {why}")
