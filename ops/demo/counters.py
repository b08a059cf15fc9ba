"""What the consumers themselves counted while the demo ran."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families

from ops.embedded.ports import HOST

STARTED = "process_start_time_seconds"
RECORDED = "hookline_consumer_events_total"
DROPPED = "hookline_consumer_duplicates_total"


@dataclass(frozen=True, slots=True)
class Counters:
    """One process's counters at a moment."""

    started: float
    recorded: float
    """Events written with an outcome."""
    dropped: float
    """Deliveries dropped as known; what Kafka offered again itself is not among them."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What all consumers counted between two moments."""

    recorded: int
    dropped: int


def read_counters(ports: list[int]) -> dict[int, Counters]:
    """Scrape the consumers of these admin ports; one that does not answer is left out."""
    found = {}
    for port in ports:
        try:
            page = httpx.get(f"http://{HOST}:{port}/metrics", timeout=5).text
        except httpx.HTTPError:
            continue
        found[port] = _parse(page)
    return found


def count_between(before: Mapping[int, Counters], after: Mapping[int, Counters]) -> Counted | None:
    """Return the difference; None where a process began anew, and with it its counters."""
    if not before or before.keys() != after.keys():
        return None
    if any(before[port].started != after[port].started for port in before):
        return None
    recorded = sum(after[port].recorded - before[port].recorded for port in before)
    dropped = sum(after[port].dropped - before[port].dropped for port in before)
    return Counted(int(recorded), int(dropped))


def _parse(page: str) -> Counters:
    sums = {STARTED: 0.0, RECORDED: 0.0, DROPPED: 0.0}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in sums and sample.labels.get("layer") != "position":
                sums[sample.name] += sample.value
    return Counters(sums[STARTED], sums[RECORDED], sums[DROPPED])
