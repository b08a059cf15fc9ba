"""I8, what a process takes stays bounded, and I9, a fault can be seen."""

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from ops.counting import count
from ops.invariants.subject import Finding, Looking, NotChecked, Process, Subject

MORE = 1.1
LOOK_SECONDS = 0.5
ANSWER_SECONDS = 5.0
GAUGES = {"process_resident_memory_bytes": "memory", "process_open_fds": "open files"}

_CONNECTIONS = text("""
SELECT application_name AS name, count(*) AS connections FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'hookline-%'
  AND application_name <> current_setting('application_name')
GROUP BY application_name
""")


# --- I8


def take_sample(subject: Subject) -> dict[str, float]:
    """Measure memory, open files, threads and connections of every process now; blocks.

    Threads only of a process whose pid is known, so that runs here.
    """
    sample = {}
    for name, process in subject.processes.items():
        for what, value in _measure(process):
            sample[f"{name}: {what}"] = value
    with subject.engine.connect() as connection:
        for row in connection.execute(_CONNECTIONS):
            sample[f"{row.name}: connections"] = float(row.connections)
    return sample


def _measure(process: Process) -> Iterator[tuple[str, float]]:
    try:
        page = httpx.get(f"{process.url}/metrics", timeout=ANSWER_SECONDS).text
    except httpx.HTTPError:
        return
    for family in text_string_to_metric_families(page):
        if family.name in GAUGES:
            yield GAUGES[family.name], family.samples[0].value
    tasks = Path(f"/proc/{process.pid}/task")
    if process.pid is not None and tasks.is_dir():
        yield "threads", float(len(list(tasks.iterdir())))


def check_bounds(subject: Subject) -> Looking:
    """Each measure is back within 10 % of the baseline, or comes back while we wait."""
    if subject.baseline is None:
        raise NotChecked("no baseline was taken beforehand")
    deadline = time.monotonic() + subject.patience_seconds
    while True:
        over = dict(_find_over(subject.baseline, take_sample(subject)))
        if not over or time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    for name, what in over.items():
        where, _, measure = name.partition(": ")
        yield Finding("I8", where, f"{measure}: {what}")
    return count(len(subject.baseline), "measure")


def _find_over(
    baseline: Mapping[str, float], sample: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    for name, before in baseline.items():
        now = sample.get(name, 0.0)
        if now > math.ceil(before * MORE):
            yield name, f"{now:,.0f}, and {before:,.0f} before"


# --- I9


def problems_of(url: str) -> dict[str, str] | None:
    """Return what the process of this admin URL says is wrong, by check; None: no answer."""
    try:
        document = httpx.get(f"{url}/readyz", timeout=ANSWER_SECONDS).json()
    except (httpx.HTTPError, ValueError):
        return None
    return {name: says for name, says in document.get("checks", {}).items() if says != "ok"}


def check_visible(subject: Subject) -> Looking:
    """Every process answers, and names nothing that is wrong."""
    if not subject.processes:
        raise NotChecked("no admin port was named")
    for name, process in subject.processes.items():
        problems = problems_of(process.url)
        if problems is None:
            yield Finding("I9", name, f"does not answer at {process.url}")
        for check, says in (problems or {}).items():
            yield Finding("I9", name, f"{check}: {says}")
    return f"readiness of {count(len(subject.processes), 'process', 'processes')}"
