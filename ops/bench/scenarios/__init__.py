"""The scenarios, one file each, under the letters that the bars have."""

from collections.abc import Callable

from ops.bench.model import Scale, Scenario
from ops.bench.scenarios import b_tutorial, f_harm

SCENARIOS: dict[str, Callable[[Scale], Scenario]] = {
    "b": b_tutorial.scenario,
    "f": f_harm.scenario,
}
