"""What a process has logged, line by line."""

import json
from typing import Any

from support.forked import Fleet


def lines(fleet: Fleet, name: str, event: str = "") -> list[dict[str, Any]]:
    """Return the lines of a consumer's log, all or those of one event; a torn line is left out."""
    found = []
    for text in fleet.log(name).splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not event or line.get("event") == event:
            found.append(line)
    return found


def applied(fleet: Fleet, *names: str) -> int:
    """Return how many events these consumers have recorded."""
    return sum(line["events"] for name in names for line in lines(fleet, name, "batch_applied"))


def replayed(fleet: Fleet, *names: str) -> int:
    """Return how many records these consumers met that were applied already."""
    return sum(line["duplicates"] for name in names for line in lines(fleet, name, "batch_applied"))
