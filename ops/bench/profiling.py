"""`python -m ops.bench.profiling FOLDER`: where the time of a consumer and of ingest goes.

Each process runs as in production, under load, and py-spy samples it from outside: a flame
graph (SVG), the samples themselves (a line a stack), and the largest costs in words.
"""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from rich.console import Console
from rich.table import Table

from ops.bench.bed import Bed
from ops.bench.drain import wait_until_applied
from ops.bench.scenarios.i_ingest import posts, start_ingest
from ops.bench.serving import Generator, wait_until_listening
from ops.bench.traffic import uniform
from ops.logs import configure
from ops.usage import UsageError

SECONDS = 8.0
SAMPLES_A_SECOND = 250
BACKLOG = 120_000
"""More than a consumer applies while it is looked at twice."""

FIRST = 2_000
"""So many are applied before the look begins: what a start costs is another question."""

SHOWN = 25
ALL = 0.6
"""What nearly everything is called by says nothing of where the time goes."""


def profile(folder: Path) -> None:
    """Write flame graphs and samples of both processes into a folder, and print their costs.

    Blocks for minutes. Raises UsageError where py-spy is missing or not allowed to look.
    """
    configure("warning", "profile")
    console = Console(highlight=False, soft_wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    servers = folder / "servers"
    rmtree(servers, ignore_errors=True)
    try:
        with Bed(servers) as bed:
            for name, under_load in (("consumer", _consumer(bed)), ("ingest", _ingest(bed))):
                with under_load as pid:
                    sample(pid, folder / f"{name}.svg", "flamegraph")
                    sample(pid, folder / f"{name}.txt", "raw")
                stacks = read_stacks((folder / f"{name}.txt").read_text(encoding="utf-8"))
                console.print(_table(name, stacks))
                console.print(f"flame graph: {folder / name}.svg")
    finally:
        rmtree(servers, ignore_errors=True)


def sample(pid: int, output: Path, form: str) -> None:
    """Look at a process for some seconds; blocks."""
    command = [
        *(str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid)),
        *("--output", str(output), "--format", form, "--duration", str(int(SECONDS))),
        *("--rate", str(SAMPLES_A_SECOND), "--nonblocking", "--threads"),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise UsageError("profiles need py-spy: pip install 'hookline[bench]'") from None
    if ended.returncode:
        raise UsageError(f"py-spy cannot look at the process: {ended.stderr.strip()[-300:]}")


def read_stacks(text: str) -> dict[tuple[str, ...], int]:
    """Read py-spy's raw form: frames from the outermost in, and how often they were seen."""
    pairs = (line.rpartition(" ") for line in text.splitlines())
    return {tuple(stack.split(";")): int(seen) for stack, _, seen in pairs if stack}


def costs(stacks: Mapping[tuple[str, ...], int]) -> list[tuple[str, float]]:
    """Return functions with their share of all samples, what they call included."""
    total = sum(stacks.values()) or 1
    seen: Counter[str] = Counter()
    for stack, times in stacks.items():
        seen.update(dict.fromkeys({_function(frame) for frame in stack}, times))
    return [(name, times / total) for name, times in seen.most_common()]


def _function(frame: str) -> str:
    """Name a frame without its line."""
    name, found, _ = frame.rpartition(":")
    return f"{name})" if found else frame


@contextmanager
def _consumer(bed: Bed) -> Iterator[int]:
    """Provide a consumer that works through a backlog."""
    with bed.deployment(bed.topic(uniform(BACKLOG, "profile"))) as deployment:
        process = deployment.member("consumer-1", "consume").process
        wait_until_applied(deployment, [process], wanted=FIRST)
        yield process.pid


@contextmanager
def _ingest(bed: Bed) -> Iterator[int]:
    """Provide an ingest with 64 connections that never rest."""
    traffic = uniform(FIRST, "profile-ingest")
    with bed.deployment(bed.empty_topic(traffic)) as deployment:
        port = start_ingest(deployment)
        wait_until_listening(port)
        generator = Generator(2 * SECONDS + 10)
        loading = threading.Thread(
            target=generator.run, args=(deployment.folder, port, posts(traffic))
        )
        loading.start()
        try:
            yield deployment.pid("ingest")
        finally:
            loading.join()


def _table(name: str, stacks: Mapping[tuple[str, ...], int]) -> Table:
    table = Table("share", "function, what it calls included", title=name, title_justify="left")
    shown = [(name, share) for name, share in costs(stacks) if share < ALL]
    for function, share in shown[:SHOWN]:
        table.add_row(f"{share:.1%}", function)
    return table


if __name__ == "__main__":
    profile(Path(sys.argv[1]))
