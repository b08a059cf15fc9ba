"""Every query of every dashboard, asked of a real Prometheus that watched hookline at work."""

import contextlib
import json
import subprocess
from pathlib import Path

import httpx2 as httpx

from ops.grafana.boards import BOARDS
from ops.grafana.render import render
from support.pipeline import Pipeline, hookline
from support.polling import eventually
from support.programs import find_program
from support.prometheus import Prometheus, prometheus

JOBS = {
    "ingest": ["ingest"],
    "consumer": ["consumer-1", "consumer-2"],
    "gatekeeper": ["gatekeeper"],
}


def queries() -> list[str]:
    """Return the expressions, with the variables as they are when a person opens a dashboard."""
    panels = [panel for board in BOARDS for panel in json.loads(render(board))["panels"]]
    exprs = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    chosen = {"$__rate_interval": "30s", "$job": ".*", "$instance": ".*"}
    for name, value in chosen.items():
        exprs = [expr.replace(name, value) for expr in exprs]
    return sorted(set(exprs))


def test_every_query_returns_data(pipeline: Pipeline, tmp_path: Path) -> None:
    """It parses, and shows numbers, while events are applied and entitlements asked for."""
    pipeline.start("ingest", "gatekeeper", "consumer-1", "consumer-2")
    ports = {job: [pipeline.members[name].port for name in names] for job, names in JOBS.items()}
    with prometheus(tmp_path, ports, "2s") as running:
        silent = set(queries())

        def all_speak() -> bool:
            _traffic(pipeline)
            silent.difference_update([expr for expr in silent if _has_numbers(running, expr)])
            return not silent

        with contextlib.suppress(AssertionError):  # which ones says more
            eventually(all_speak, 90)
        assert sorted(silent) == []
        for annotation in json.loads(render(BOARDS[0]))["annotations"]["list"]:
            running.query(annotation["expr"])
        assert running.query("max_over_time(hookline_consumer_rebalances_total[1m]) > 0")
        assert running.problems() == []
        assert running.alerts("firing") == set()
    for name in pipeline.members:
        assert _complaints(pipeline.metrics(name)) == ""


def _traffic(pipeline: Pipeline) -> None:
    sent = hookline(pipeline, "simulate", "--customers", "5")
    assert sent.returncode == 0, sent.stdout
    gatekeeper = pipeline.variables["HOOKLINE_GATEKEEPER_URL"]
    for customer in ("cus_1", "cus_2"):
        httpx.get(f"{gatekeeper}/v1/customers/{customer}/entitlement").raise_for_status()


def _has_numbers(running: Prometheus, expr: str) -> bool:
    return any(series["value"][1] != "NaN" for series in running.query(expr))


def _complaints(page: str) -> str:
    """Return what promtool finds wrong with a metrics page."""
    found = subprocess.run(  # noqa: S603 - found by ourselves
        [find_program("promtool"), "check", "metrics"],
        input=page,
        capture_output=True,
        check=False,
        text=True,
    )
    return found.stdout + found.stderr
