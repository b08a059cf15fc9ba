"""A server under load: started for the run, loaded by a generator that is proven, and checked."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.bench.bed import TEMPLATE, Bed, Deployment, Topic
from ops.bench.commits import percentiles
from ops.bench.load import Outcome, Spec, write_requests
from ops.bench.model import Sample
from ops.bench.peer import own_peer
from ops.bench.processes import processor_seconds
from ops.embedded.errors import EmbeddedError
from ops.embedded.ports import free_ports, is_listening
from ops.embedded.processes import Process

PROVEN_TIMES = 3.0
"""So much faster than what it measures must a generator be."""

START_SECONDS = 60.0
GENERATOR_SECONDS = 120.0
LOOK_SECONDS = 0.05

Check = Callable[[Deployment, Outcome], tuple[str, list[str]]]
"""Holds what was answered against what is there; returns what was checked, and the problems."""


Start = Callable[[Deployment], int]
"""Starts a server of the deployment and returns its port; does not wait."""


@dataclass
class Generator:
    """Loads a port from a process of its own, and knows what it could reach."""

    seconds: float
    proven: float = 0.0

    def prove(self, bed: Bed, requests: Sequence[bytes]) -> None:
        """Measure once what it reaches where the server costs nothing; blocks."""
        if self.proven:
            return
        (port,) = free_ports(1)
        sink = Process("sink", bed.folder)
        sink.start([*own_peer("sink"), str(port)])
        try:
            sink.wait_ready(lambda: is_listening(port), START_SECONDS)
            self.proven = self.run(bed.folder / "proof", port, requests).rate
        finally:
            sink.stop()

    def run(self, folder: Path, port: int, requests: Sequence[bytes]) -> Outcome:
        """Load a port for the seconds; blocks. Raises EmbeddedError if the generator fails."""
        folder.mkdir(parents=True, exist_ok=True)
        spec = Spec(port, str(folder / "requests"), str(folder / "outcome"), self.seconds)
        write_requests(Path(spec.requests), requests)
        (folder / "spec").write_text(json.dumps(asdict(spec)))
        command = [sys.executable, "-m", "ops.bench.load", str(folder / "spec")]
        run_to_end("the load generator", command)
        return Outcome(**json.loads(Path(spec.outcome).read_text()))

    def problems(self, outcome: Outcome) -> list[str]:
        """Return why what it measured does not count, if it was too slow itself."""
        if self.proven >= PROVEN_TIMES * outcome.rate:
            return []
        reached, measured = f"{self.proven:,.0f}", f"{outcome.rate:,.0f}"
        return [f"the generator reaches {reached}/s, not {PROVEN_TIMES:g} times {measured}/s"]


def run_to_end(name: str, command: Sequence[str], **environment: str) -> None:
    """Run a process that ends by itself; blocks. Raises EmbeddedError if it fails."""
    ended = subprocess.run(  # noqa: S603 - our own command line
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=GENERATOR_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise EmbeddedError(f"{name} ended:\n{ended.stderr[-500:]}")


def serve_under_load(
    bed: Bed,
    topic: Topic,
    generator: Generator,
    *,
    start: Start,
    requests: Callable[[], Sequence[bytes]],
    check: Check,
    template: str = TEMPLATE,
) -> Sample:
    """Start a server, load it, and hold its answers against what is there; blocks.

    Requests a second, p50, p95 and p99 of their times as the generator saw them, and the
    processor time of each for the server (`cpu`) and for PostgreSQL, all in seconds.
    """
    asked = requests()
    generator.prove(bed, asked)
    with bed.deployment(topic, template=template) as deployment:
        port = start(deployment)
        wait_until_listening(port)
        before = _effort(deployment)
        outcome = generator.run(deployment.folder, port, asked)
        effort = [after - was for was, after in zip(before, _effort(deployment), strict=True)]
        checked, problems = check(deployment, outcome)
    problems += generator.problems(outcome)
    if others := {status: n for status, n in outcome.statuses.items() if status != "200"}:
        problems.append(f"answers other than 200: {others}")
    each = [seconds / max(len(outcome.answers), 1) for seconds in effort]
    figures = {"rate": outcome.rate} | percentiles(outcome.latencies)
    figures |= dict(zip(("cpu", "postgresql"), each, strict=True))
    raw = {"generator": generator.proven, "statuses": outcome.statuses}
    return Sample(figures, checked, problems, raw)


def _effort(deployment: Deployment) -> tuple[float, float]:
    """Return the processor time of the server and of PostgreSQL so far."""
    own = deployment.processor_seconds()
    return own, processor_seconds(deployment.bed.pids()["postgresql"])


def wait_until_listening(port: int) -> None:
    """Wait until a server accepts connections; raises EmbeddedError if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while not is_listening(port):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"nothing listens on port {port} after {START_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
