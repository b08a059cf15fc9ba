"""The scenarios, one file each, under the letters that the bars have."""

from collections.abc import Callable

from ops.bench.model import Scale, Scenario
from ops.bench.scenarios import (
    a_ceiling,
    b_tutorial,
    c_frameworks,
    d_processes,
    e_skew,
    f_harm,
    g_growth,
    h_backlog,
    i_ingest,
    j_gatekeeper,
    k_latency,
)

SCENARIOS: dict[str, Callable[[Scale], Scenario]] = {
    "a": a_ceiling.scenario,
    "b": b_tutorial.scenario,
    "c": c_frameworks.scenario,
    "d": d_processes.scenario,
    "e": e_skew.scenario,
    "f": f_harm.scenario,
    "g": g_growth.scenario,
    "h": h_backlog.scenario,
    "i": i_ingest.scenario,
    "j": j_gatekeeper.scenario,
    "k": k_latency.scenario,
}
