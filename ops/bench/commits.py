"""What PostgreSQL noted of each commit: when it was, and how many events it recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from ops.bench.bed import Deployment

# A transaction's rows bear its number, and PostgreSQL its moment (track_commit_timestamp).
_COMMITS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS at, count(*)::int
FROM webhook_events WHERE topic = %s GROUP BY xmin ORDER BY at
"""
_LAST_MOVE = """
SELECT max(extract(epoch FROM pg_xact_commit_timestamp(xmin)))::float8 FROM consumer_positions
"""
_PLACES = """
WITH first AS (
  SELECT xmin AS number FROM webhook_events WHERE topic = %s
  ORDER BY pg_xact_commit_timestamp(xmin) LIMIT 1
)
SELECT coalesce(sum(last + 1), 0)::int FROM (
  SELECT max(kafka_offset) AS last FROM webhook_events AS event, first
  WHERE event.xmin = first.number GROUP BY partition
) AS reached
"""
_DELAYS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - received_at)::float8
FROM webhook_events WHERE topic = %s ORDER BY received_at
"""


@dataclass(frozen=True, slots=True)
class Drain:
    """How a backlog was applied, from the first commit to the last."""

    rate: float
    """Deliveries a second; those of the first commit are not counted, nor is what led to it."""
    curve: list[tuple[float, int]]
    """Seconds since the first commit, and events recorded by then."""


def read_drain(deployment: Deployment) -> Drain:
    """Read how the deployment's topic was drained."""
    topic = deployment.topic
    commits = deployment.query(_COMMITS, topic.name)
    ((first,),) = deployment.query(_PLACES, topic.name)
    ((end,),) = deployment.query(_LAST_MOVE)
    began = commits[0][0]
    seconds = max(end or 0.0, commits[-1][0]) - began
    curve, recorded = [], 0
    for at, events in commits:
        recorded += events
        curve.append((round(at - began, 4), recorded))
    return Drain((topic.traffic.deliveries - first) / max(seconds, 1e-6), curve)


def read_delays(deployment: Deployment) -> list[float]:
    """Return the seconds from receipt to commit of all events, in the order of their receipt."""
    return [row[0] for row in deployment.query(_DELAYS, deployment.topic.name)]


def percentiles(delays: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of times in seconds; of too few, the greatest stands for p99."""
    cuts = quantiles(delays, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
