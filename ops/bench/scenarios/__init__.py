"""The scenarios, one file each, under the letters that the bars have."""

from collections.abc import Callable

from ops.bench.model import Scale, Scenario
from ops.bench.scenarios import a_ceiling, b_tutorial, f_harm, h_backlog, i_ingest, k_latency

SCENARIOS: dict[str, Callable[[Scale], Scenario]] = {
    "a": a_ceiling.scenario,
    "b": b_tutorial.scenario,
    "f": f_harm.scenario,
    "h": h_backlog.scenario,
    "i": i_ingest.scenario,
    "k": k_latency.scenario,
}
