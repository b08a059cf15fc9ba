"""What was measured, as the table of README.md: `python -m ops.bench.results FILE` prints it."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from ops.bench.report import wanted

COLUMNS = ("id", "over / under", "bar", "measured", "")
WIDTH = 100
VERDICTS = {True: "reached", False: "**missed**", None: ""}


def render(document: Mapping[str, Any]) -> str:
    """Return every ratio of what `--json` wrote as Markdown, with the machine below it."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(_row(one))} |" for one in document["scenarios"]),
        "",
        _say(document["machine"]),
    ]
    return "\n".join(lines)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    bar = wanted(one["bar"], lower=one["lower_is_better"])
    verdict = VERDICTS[one["meets_bar"]]
    return f"`{one['id']}`", one["says"], bar, _measured(one["ratio"], one["rounds"]), verdict


def _measured(ratio: float | None, rounds: Sequence[float]) -> str:
    if ratio is None:
        return "no clean run"
    return f"{ratio:.2f} ({min(rounds):.2f} to {max(rounds):.2f})"


def _say(machine: Mapping[str, Any]) -> str:
    return fill(
        f"Medians of the rounds, with the lowest and the highest, on {machine['cores']} cores "
        f"({machine['processor']}) that servers, load generator and what is measured share.",
        WIDTH,
    )


def main(arguments: Sequence[str]) -> None:
    """Print the table of a document that was written before."""
    (document,) = arguments
    sys.stdout.write(render(json.loads(Path(document).read_text(encoding="utf-8"))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
