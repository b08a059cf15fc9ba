"""`hookline bench`: measure hookline's ratios on this machine."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ops.bench.bed import Bed
from ops.bench.machine import describe_machine
from ops.bench.measure import Measured, measure
from ops.bench.model import FULL, QUICK, Arm, Sample, Scale, Scenario
from ops.bench.plots import draw, require_library
from ops.bench.report import meets_bars, print_report, to_document
from ops.bench.scenarios import SCENARIOS
from ops.logs import configure
from ops.usage import UsageError

EXIT_BELOW = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and where the outcome goes."""

    quick: bool
    scenarios: tuple[str, ...]
    json_file: Path | None
    data_dir: Path
    rounds: int | None = None
    """Instead of as many as the mode has."""
    plots: Path | None = None
    """Folder for pictures."""


def run(options: Options) -> int:
    """Measure, print and write; 0 if every run was clean and each ratio reaches its bar, else 3.

    Starts servers of its own in an empty folder, and removes it at the end. Blocks for minutes.
    Raises UsageError or EmbeddedError.
    """
    scale = QUICK if options.quick else FULL
    scale = replace(scale, rounds=options.rounds or scale.rounds)
    chosen = _choose(options.scenarios, scale)
    require_writable(options.json_file)
    if options.plots is not None:
        require_library()
    configure("warning", "bench")
    console = Console(highlight=False, soft_wrap=True)
    folder = options.data_dir / "bench"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with Bed(folder) as bed:
            machine = describe_machine(bed)
            console.print(_say_machine(machine))
            measured = _measure_all(chosen, bed, scale, console)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_report(console, measured)
    document = to_document(measured, machine, scale)
    if options.json_file is not None:
        options.json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.plots is not None:
        for picture in draw(document, options.plots):
            console.print(f"drawn: {picture}")
    return 0 if meets_bars(measured) else EXIT_BELOW


def require_writable(path: Path | None) -> None:
    """Raise UsageError if the report could not be written in the end."""
    if path is None:
        return
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written: {error.strerror}") from None


def _choose(ids: Sequence[str], scale: Scale) -> list[Scenario]:
    if unknown := set(ids) - SCENARIOS.keys():
        known = ", ".join(SCENARIOS)
        raise UsageError(f"--scenario {min(unknown)}: there are {known}")
    return [make(scale) for id_, make in SCENARIOS.items() if not ids or id_ in ids]


def _measure_all(
    scenarios: Sequence[Scenario], bed: Bed, scale: Scale, console: Console
) -> list[Measured]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        runs = scale.rounds * sum(len(scenario.arms) for scenario in scenarios)
        task = progress.add_task("starting", total=runs)

        def ran(scenario: Scenario, arm: Arm, sample: Sample) -> None:
            progress.update(task, advance=1, description=f"{scenario.id}: {arm.name}")
            for problem in sample.problems[:1]:
                console.print(f"{scenario.id}, {arm.name}: {problem}", markup=False)

        return [measure(scenario, bed, scale.rounds, ran) for scenario in scenarios]


def _say_machine(machine: dict[str, object]) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"PostgreSQL with fsync on; {machine['shared']}"
    )
