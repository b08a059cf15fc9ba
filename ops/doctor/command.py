"""`hookline doctor`: looks, prints, and says by its exit code whether all is well."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ops.counting import count
from ops.doctor import invariants
from ops.doctor.examination import examine
from ops.doctor.line import Line, State
from ops.doctor.site import Site
from ops.invariants.checker import Result
from ops.usage import UsageError
from schemas.settings import DoctorSettings

EXIT_AWAY = 1
EXIT_WRONG = 3
STYLES = {
    State.OK: "green",
    State.WRONG: "bold red",
    State.AWAY: "bold red",
    State.UNKNOWN: "dim",
}
WIDE = 13


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked the doctor for."""

    is_check: bool
    invariants: invariants.Options
    webhook_url: str | None
    as_json: bool


def run(load: Callable[[], DoctorSettings], options: Options) -> int:
    """Print a line for each part of the deployment, the invariants if asked; return the exit code.

    Blocks; reads only, in short transactions. 0: nothing is wrong; 3: something is; 1: a server
    does not answer. Raises UsageError or SettingsError; with invariants to check PlansError,
    AwayError or sqlalchemy's DBAPIError where what they need is not there.
    """
    _require_files(options.invariants.outputs)
    settings = load()
    site = Site(settings, options.invariants.admin_urls, options.webhook_url)
    console = Console(highlight=False, soft_wrap=True)
    lines: list[Line] = []
    try:
        for line in examine(site):
            lines.append(line)
            if not options.as_json:
                console.print(to_text(line))
    finally:
        site.close()
    if not options.as_json:
        console.print(summarize(lines), style="bold")
    results = invariants.run(settings, options.invariants) if options.is_check else []
    _show_invariants(console, options, lines, results)
    return _exit_code(lines, results)


def _show_invariants(
    console: Console, options: Options, lines: Sequence[Line], results: Sequence[Result]
) -> None:
    if options.as_json:
        document = to_document(lines)
        if options.is_check:
            document |= invariants.to_document(results)
        print(json.dumps(document, indent=2))  # noqa: T201 - the document asked for
    elif options.is_check:
        invariants.show(console, results)


def to_text(line: Line) -> Text:
    """Return a line as a terminal shows it."""
    return Text.assemble(
        f"{line.about:<{WIDE}}",
        (f"{line.state:<{WIDE}}", STYLES[line.state]),
        line.says,
        (f" -> {line.mend}" if line.mend else "", "bold"),
    )


def to_document(lines: Sequence[Line]) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "well": not any(line.state in {State.WRONG, State.AWAY} for line in lines),
        "lines": [
            {"about": one.about, "state": one.state, "says": one.says, "mend": one.mend}
            for one in lines
        ],
    }


def summarize(lines: Sequence[Line]) -> str:
    """Say how many of each state there are."""
    states = [line.state for line in lines]
    found = {state: states.count(state) for state in State}
    bad = found[State.WRONG] + found[State.AWAY]
    well = (
        f"{count(found[State.OK], 'thing')} as it must be"
        if found[State.OK] == 1
        else (f"{found[State.OK]} things as they must be")
    )
    parts = [well, f"{bad} wrong" if bad else "nothing wrong"]
    if found[State.UNKNOWN]:
        parts.append(f"{found[State.UNKNOWN]} not checked")
    return ", ".join(parts)


def _exit_code(lines: Sequence[Line], results: Sequence[Result]) -> int:
    states = {line.state for line in lines}
    if State.AWAY in states:
        return EXIT_AWAY
    is_broken = any(result.state == "broken" for result in results)
    return EXIT_WRONG if State.WRONG in states or is_broken else 0


def _require_files(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--output {path}: there is no such file")
