"""What the benchmark found: a table for people, a document for programs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.figures import Result, figures_of
from ops.bench.measure import Measured
from ops.bench.model import Sample, Scale

UNITS = {
    "rate": ("/s", 1.0),
    "taken": ("/s", 1.0),
    "memory": (" MB", 1e-6),
    "p50": (" ms", 1e3),
    "p95": (" ms", 1e3),
    "p99": (" ms", 1e3),
    "cpu": (" µs", 1e6),
    "postgresql": (" µs", 1e6),
}

THREE_DIGITS = 100


def print_report(console: Console, measured: Sequence[Measured]) -> None:
    """Print every ratio with its bar, then the medians of what was divided."""
    table = Table(
        "id", "ratio", "median", "rounds", "bar", "aim", "", title="ratios", title_justify="left"
    )
    for one in measured:
        for result in one.results:
            table.add_row(*_row(result))
    console.print(table)
    for one in measured:
        console.print(_figures(one))
        for note in one.scenario.notes:
            console.print(f"  {note}")
    for problem in (problem for one in measured for problem in one.problems()):
        console.print(f"does not count: {problem}", style="red", markup=False)


def to_document(
    measured: Iterable[Measured], machine: Mapping[str, Any], scale: Scale
) -> dict[str, Any]:
    """Return what `--json` writes."""
    measured = list(measured)
    return {
        "mode": scale.name,
        "scenarios": [_ratio(one, result) for one in measured for result in one.results],
        "machine": dict(machine),
        "samples": {
            one.scenario.id: {
                "title": one.scenario.title,
                "control": one.control.value if one.control else None,
                "notes": list(one.scenario.notes),
                "rounds": [
                    {arm: _sample(sample) for arm, sample in found.items()} for found in one.rounds
                ],
            }
            for one in measured
        },
    }


def meets_bars(measured: Iterable[Measured]) -> bool:
    """Tell whether every run was clean and every ratio reaches its bar."""
    return all(
        not one.problems()
        and all(result.meets(result.ratio.bar) is not False for result in one.results)
        for one in measured
    )


def wanted(value: float | None, *, lower: bool) -> str:
    """Say what a ratio is to reach, nothing where there is no bar."""
    return "" if value is None else f"{'at most' if lower else 'at least'} {value:g}"


def _row(result: Result) -> tuple[str, ...]:
    ratio = result.ratio
    return (
        ratio.id,
        ratio.says,
        "no clean run" if result.value is None else f"{result.value:.2f}",
        f"{min(result.each):.2f} to {max(result.each):.2f}" if result.each else "",
        wanted(ratio.bar, lower=ratio.lower_is_better),
        wanted(ratio.aim, lower=ratio.lower_is_better),
        _verdict(result),
    )


def _verdict(result: Result) -> str:
    reached = result.meets(result.ratio.bar)
    if reached is None:
        return ""
    if not reached:
        return "[red]below the bar[/]"
    return "[green]aim reached[/]" if result.meets(result.ratio.aim) else "[green]bar reached[/]"


def _figures(one: Measured) -> Table:
    title = f"{one.scenario.id}: {one.scenario.title}"
    if one.control is not None and one.control.value is not None:
        title += f" (noise: {one.control.ratio.says} is {one.control.value:.2f})"
    found = {arm.name: figures_of(arm.name, one.rounds) for arm in one.scenario.arms}
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    table = Table("arm", *names, title=title, title_justify="left")
    for arm, figures in found.items():
        table.add_row(arm, *(_say(name, figures.get(name)) for name in names))
    return table


def _say(name: str, value: float | None) -> str:
    if value is None:
        return ""
    unit, factor = UNITS.get(name, ("", 1.0))
    shown = value * factor
    return f"{shown:,.0f}{unit}" if shown >= THREE_DIGITS else f"{shown:.2f}{unit}"


def _ratio(one: Measured, result: Result) -> dict[str, Any]:
    ratio = result.ratio
    return {
        "id": ratio.id,
        "ratio": result.value,
        "bar": ratio.bar,
        "aim": ratio.aim,
        "spread": result.spread,
        "lower_is_better": ratio.lower_is_better,
        "says": ratio.says,
        "rounds": list(result.each),
        "meets_bar": result.meets(ratio.bar),
        "control": one.control.value if one.control else None,
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "figures": dict(sample.figures),
        "counts": sample.counts,
        "checked": sample.checked,
        "problems": list(sample.problems),
        "raw": dict(sample.raw),
    }
