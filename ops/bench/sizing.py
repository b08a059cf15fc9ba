"""How many processes a rate takes, by what each event and answer cost where it was measured.

`python -m ops.bench.sizing FILE` prints the table of README.md from what `--json` wrote. A core
is planned to be busy for half of its time, so that a burst of twice the rate is taken as it comes.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from consumer.gatekeeper.primary import CONCURRENT_READS

RATES = (10, 100, 1_000, 5_000)
"""Events a second at the daily peak."""

BUSY = 0.5
READS_PER_EVENT = 10
"""Questions to the gatekeeper, nearly all answered out of the cache."""

CONNECTIONS = {"consumer": 1, "gatekeeper": CONCURRENT_READS}
WIDTH = 100
SCENARIOS = ("a", "i", "j")
COLUMNS = (
    "events/s at the peak",
    "ingest",
    "consumers",
    "gatekeepers",
    "cores of PostgreSQL",
    "connections",
)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a core for each event or answer; `ceiling` is SQL alone, events a second."""

    ingest: float
    consumer: float
    postgresql: float
    gatekeeper: float
    ceiling: float


@dataclass(frozen=True, slots=True)
class Size:
    """What a rate takes."""

    rate: int
    ingests: int
    consumers: int
    gatekeepers: int
    postgresql_cores: int

    @property
    def connections(self) -> int:
        """Connections that PostgreSQL holds for them."""
        return (
            self.consumers * CONNECTIONS["consumer"] + self.gatekeepers * CONNECTIONS["gatekeeper"]
        )


def costs_of(document: Mapping[str, Any]) -> Costs | None:
    """Return the medians of the clean runs of a, i and j; None where one was not measured."""
    found = {
        "ingest": _median(document, "i", "hookline", "cpu"),
        "consumer": _median(document, "a", "hookline", "cpu"),
        "postgresql": _median(document, "a", "hookline", "postgresql"),
        "gatekeeper": _median(document, "j", "hit", "cpu"),
        "ceiling": _median(document, "a", "SQL alone", "rate"),
    }
    known = {name: value for name, value in found.items() if value is not None}
    return Costs(**known) if len(known) == len(found) else None


def size(costs: Costs, rate: int) -> Size:
    """Return what so many events a second take."""

    def cores(seconds: float, times: int = 1) -> int:
        return max(math.ceil(rate * times * seconds / BUSY), 1)

    return Size(
        rate,
        cores(costs.ingest),
        cores(costs.consumer),
        cores(costs.gatekeeper, READS_PER_EVENT),
        cores(costs.postgresql),
    )


def render(document: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with the machine below it; raises ValueError without costs."""
    costs = costs_of(document)
    if costs is None:
        raise ValueError(f"clean runs of the scenarios {', '.join(SCENARIOS)} are needed")
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(
            f"| {one.rate:,} | {one.ingests} | {one.consumers} | {one.gatekeepers} "
            f"| {one.postgresql_cores} | {one.connections} |"
            for one in (size(costs, rate) for rate in RATES)
        ),
        "",
        _say(costs, document["machine"]),
    ]
    return "\n".join(lines)


def _say(costs: Costs, machine: Mapping[str, Any]) -> str:
    return fill(
        f"By processor time on {machine['cores']} cores ({machine['processor']}): "
        f"ingest {_micro(costs.ingest)} a request, a consumer {_micro(costs.consumer)} an event, "
        f"PostgreSQL {_micro(costs.postgresql)}, the gatekeeper {_micro(costs.gatekeeper)} an "
        f"answer, {READS_PER_EVENT} of them for each event; cores {BUSY:.0%} busy. One connection "
        f"took {costs.ceiling:,.0f} events/s of this SQL, with nothing else to do.",
        WIDTH,
    )


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"


def _median(document: Mapping[str, Any], scenario: str, arm: str, figure: str) -> float | None:
    rounds = document["samples"].get(scenario, {}).get("rounds", [])
    values = [
        one[arm]["figures"][figure]
        for one in rounds
        if arm in one and one[arm]["counts"] and figure in one[arm]["figures"]
    ]
    return median(values) if values else None


def main(arguments: Sequence[str]) -> None:
    """Print the table of a document that was written before."""
    (document,) = arguments
    sys.stdout.write(render(json.loads(Path(document).read_text(encoding="utf-8"))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
