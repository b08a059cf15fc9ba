"""A run of somebody else's consumer on its own database, measured as hookline's is."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ops.bench.bed import Bed, Deployment
from ops.bench.commits import read_drain
from ops.bench.drain import recorded, wait_until_applied
from ops.bench.model import Sample
from ops.bench.peers.handler import PAYLOAD_AS_JSONB
from ops.bench.peers.replay import SCRATCH
from ops.bench.traffic import Traffic
from ops.bench.verdict import PEER, WITHOUT_REST, judge

MODULES = "ops.bench.peers"


def own_peer(module: str) -> list[str]:
    """Return how to run a peer that needs nothing but hookline's own libraries."""
    return [sys.executable, "-m", f"{MODULES}.{module}"]


def installed_peer(name: str, module: str, *arguments: str) -> list[str]:
    """Return how to run a framework's peer in the environment that `make bench` made for it."""
    python = Path(sys.prefix) / "peers" / name / "bin" / "python"
    return [str(python), "-m", f"{MODULES}.{module}", *arguments]


def is_installed(name: str) -> bool:
    """Tell whether a framework's environment is complete."""
    return (Path(sys.prefix) / "peers" / name / ".installed").is_file()


def drain_by_peer(bed: Bed, traffic: Traffic, command: Sequence[str], **environment: str) -> Sample:
    """Let a peer apply traffic that waits in Kafka; events a second, and the verdict; blocks."""
    with bed.deployment(bed.topic(traffic)) as deployment:
        make_tutorial(deployment)
        process = deployment.process("peer", list(command), **environment)
        wait_until_applied(deployment, [process], recorded, len(traffic.accepted))
        found = read_drain(deployment)
        # A peer records an event with its commit, so nothing is at work any more.
        deployment.end_processes()
        checked, problems = judge(deployment, PEER)
        raw = {"deliveries": traffic.deliveries, "curve": found.curve}
        return Sample({"rate": found.rate}, checked, problems, raw)


def replay_sql(bed: Bed, traffic: Traffic) -> Sample:
    """Let a consumer's SQL run from memory, and judge what it wrote as a consumer's; blocks."""
    with (
        bed.deployment(bed.topic(traffic)) as deployment,
        bed.database("bench_scratch") as scratch,
    ):
        process = deployment.process("replay", own_peer("replay"), **{SCRATCH: scratch})
        wait_until_applied(deployment, [process])
        found = read_drain(deployment)
        checked, problems = judge(deployment, WITHOUT_REST)
        return Sample({"rate": found.rate}, checked, problems, {"curve": found.curve})


def make_tutorial(deployment: Deployment) -> None:
    """Let the deployment's empty table hold bodies as jsonb."""
    deployment.execute(PAYLOAD_AS_JSONB)
