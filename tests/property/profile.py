"""How many examples a run looks at: few by default, the full number with HOOKLINE_PROVE=1."""

import os

PROVING = os.environ.get("HOOKLINE_PROVE") == "1"


def examples(full: int, few: int) -> int:
    """Return the number of examples of this run."""
    return full if PROVING else few
