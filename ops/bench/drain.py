"""A backlog applied by consumers started for it: the run that most scenarios are made of."""

import time
from collections.abc import Callable, Collection, Sequence

from ops.bench.bed import TEMPLATE, Bed, Deployment
from ops.bench.commits import read_drain
from ops.bench.model import Sample
from ops.bench.processes import memory_of, processor_seconds
from ops.bench.traffic import Traffic
from ops.bench.verdict import HOOKLINE, Extent, judge
from ops.embedded.errors import EmbeddedError
from ops.embedded.processes import Process

LOOK_SECONDS = 0.1
DRAIN_SECONDS = 600.0
APPLIED = "SELECT coalesce(sum(next_offset), 0)::int FROM consumer_positions"
_RECORDED = "SELECT count(*)::int FROM webhook_events"


def drain(
    bed: Bed,
    traffic: Traffic,
    *,
    consumers: int = 1,
    template: str = TEMPLATE,
    invariants: Collection[str] = HOOKLINE,
    extent: Extent = Extent.ALL,
    memory: bool = False,
    **own: str,
) -> Sample:
    """Let so many consumers apply traffic that waits in Kafka; events a second, and the verdict.

    Deliveries count, repeats and junk included. The clock runs from the first commit to the
    last, so that no start of a process is measured. `cpu` is the consumers' processor time for a
    delivery, `postgresql` the server's, in seconds. Blocks.
    """
    with bed.deployment(bed.topic(traffic), template=template, **own) as deployment:
        members = [
            deployment.member(f"consumer-{number + 1}", "consume") for number in range(consumers)
        ]
        effort = Effort(bed.pids()["postgresql"])
        most = wait_until_applied(deployment, [member.process for member in members], effort=effort)
        found = read_drain(deployment)
        figures = {"rate": found.rate} | effort.figures()
        figures |= {"memory": most} if memory else {}
        checked, problems = judge(deployment, invariants, extent)
        raw = {"deliveries": traffic.deliveries, "curve": found.curve}
        return Sample(figures, checked, problems, raw)


class Effort:
    """The processor time that each delivery takes, from the first commit that is seen."""

    def __init__(self, postgresql: int) -> None:
        self._postgresql = postgresql
        self._looks: list[tuple[int, float, float]] = []

    def look(self, deliveries: int, processes: Sequence[Process]) -> None:
        """Note how far they are, and what it has taken; processes that have ended are none."""
        own = sum(processor_seconds(one.pid) for one in processes if one.is_alive())
        self._looks.append((deliveries, own, processor_seconds(self._postgresql)))

    def figures(self) -> dict[str, float]:
        """Return seconds for a delivery; nothing of a run that was over at the first look."""
        working = [look for look in self._looks if look[0]]
        if not working or working[0][0] == working[-1][0]:
            return {}
        deliveries, cpu, postgresql = (
            last - first for first, last in zip(working[0], working[-1], strict=True)
        )
        return {"cpu": cpu / deliveries, "postgresql": postgresql / deliveries}


def applied(deployment: Deployment) -> int:
    """Return how many records the positions have passed."""
    return int(deployment.query(APPLIED)[0][0])


def recorded(deployment: Deployment) -> int:
    """Return how many events stand recorded."""
    return int(deployment.query(_RECORDED)[0][0])


def wait_until_applied(
    deployment: Deployment,
    processes: list[Process],
    count: Callable[[Deployment], int] = applied,
    wanted: int | None = None,
    effort: Effort | None = None,
) -> float:
    """Wait until all deliveries are; returns the most memory a process had, in bytes.

    Raises EmbeddedError with the end of a log if a process ends or nothing moves any more.
    """
    wanted = deployment.topic.traffic.deliveries if wanted is None else wanted
    most, last, deadline = 0.0, -1, time.monotonic() + DRAIN_SECONDS
    while (now := count(deployment)) < wanted:
        for process in processes:
            if not process.is_alive() and count(deployment) < wanted:
                raise EmbeddedError(f"{process.name} ended:\n{process.tail()}")
            most = max(most, _memory(process))
        if effort is not None:
            effort.look(now, processes)
        if now != last:
            last, deadline = now, time.monotonic() + DRAIN_SECONDS / 10
        if time.monotonic() > deadline:
            raise EmbeddedError(f"{processes[0].name} stands still:\n{processes[0].tail()}")
        time.sleep(LOOK_SECONDS)
    if effort is not None:
        effort.look(now, processes)
    return max(most, *map(_memory, processes))


def _memory(process: Process) -> float:
    return memory_of(process.pid) if process.is_alive() else 0.0
