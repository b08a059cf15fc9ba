"""Events that arrive while the consumer works: at the rate it can take, or at a fixed one."""

from collections.abc import Sequence

import psycopg

from ops.bench.bed import TEMPLATE, Bed, Deployment
from ops.bench.commits import percentiles, read_delays, read_drain
from ops.bench.drain import APPLIED, applied, recorded, wait_until_applied
from ops.bench.model import Sample
from ops.bench.peer import make_tutorial
from ops.bench.traffic import Traffic, uniform
from ops.bench.verdict import HOOKLINE, PEER, Extent, judge
from ops.bench.writer import write_ahead, write_at
from ops.embedded.processes import Process

AHEAD = 2_000
"""Four batches: the consumer never waits, and never has a backlog."""

FIRST = 60
WARM_SECONDS = 1.0
"""Of a rate that has just begun: a new connection's statements are still being planned."""

LEAST_EVENTS = 200
PACE_KEPT = 0.95
"""A writer that fell further behind its rate did not measure what it says."""


def keep_up(bed: Bed, traffic: Traffic) -> Sample:
    """Write traffic as fast as it is applied, and no faster; rate, memory and the verdict."""
    topic = bed.empty_topic(traffic)
    records = list(traffic.records())
    with bed.deployment(topic) as deployment:
        member = deployment.member("consumer-1", "consume")
        member.wait_ready()
        with bed.writing(topic) as writer, psycopg.connect(deployment.database_url) as connection:
            connection.autocommit = True

            def positions() -> int:
                row = connection.execute(APPLIED.encode()).fetchone()
                return int(row[0]) if row else 0

            write_ahead(writer, records, positions, AHEAD)
        memory = wait_until_applied(deployment, [member.process])
        found = read_drain(deployment)
        checked, problems = judge(deployment)
        return Sample(
            {"rate": found.rate, "memory": memory}, checked, problems, {"curve": found.curve}
        )


def pace(
    bed: Bed,
    name: str,
    rate: float,
    seconds: float,
    *,
    peer: Sequence[str] | None = None,
    template: str = TEMPLATE,
) -> Sample:
    """Write at a fixed rate for so long; delays from receipt to commit, and the verdict; blocks.

    `peer` is the command of somebody else's consumer, else it is hookline's. The figure `taken`
    is the rate at which events were applied while they were written. The first records go ahead,
    so that joining the group is not measured; nor is the first second.
    """
    ahead = FIRST + int(rate * WARM_SECONDS)
    traffic = uniform(ahead + max(int(rate * seconds), LEAST_EVENTS), name)
    topic = bed.empty_topic(traffic)
    records = list(traffic.records())
    # Positions where there are some: to count the events of a large table takes its time.
    count = applied if peer is None else recorded
    with bed.deployment(topic, template=template) as deployment:
        process = _start(deployment, peer)
        with bed.writing(topic) as writer:
            for record in records[:FIRST]:
                writer.write(record)
            writer.flush()
            wait_until_applied(deployment, [process], count, FIRST)
            reached = write_at(writer, records[FIRST:], rate)
        wait_until_applied(deployment, [process], count, len(traffic.accepted))
        paced = read_delays(deployment)[FIRST:]
        delays = paced[ahead - FIRST :]
        if peer is not None:
            deployment.end_processes()
        checked, problems = judge(deployment, HOOKLINE if peer is None else PEER, Extent.OWN)
        if reached < rate * PACE_KEPT:
            problems.append(f"the writer reached {reached:,.0f} of {rate:,.0f} records a second")
        figures = percentiles(delays) | {
            "rate": reached,
            "taken": taken(paced, rate, WARM_SECONDS),
        }
        return Sample(figures, checked, problems, {"delays": [round(d, 5) for d in delays]})


def taken(delays: Sequence[float], rate: float, warm: float) -> float:
    """Return how many events a second were applied while they were written, the `warm` s left out.

    The delays are in the order of receipt, and one event was received each `1 / rate` seconds.
    """
    end = len(delays) / rate
    applied_at = (number / rate + delay for number, delay in enumerate(delays))
    return sum(warm < at <= end for at in applied_at) / (end - warm)


def _start(deployment: Deployment, peer: Sequence[str] | None) -> Process:
    if peer is None:
        return deployment.member("consumer-1", "consume").process
    make_tutorial(deployment)
    return deployment.process("peer", list(peer))
