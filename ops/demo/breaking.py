"""Breaking one part of a deployment, as a crash does, and letting its `up` mend it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ops.demo.deployment import Deployment, wait_until_ready
from ops.embedded.processes import running_pid
from ops.usage import UsageError

PARTS = {
    "redis": "valkey",
    "consumer": "consumer-1",
    "postgres": "postgresql",
    "kafka": "kafka",
}
AWAY_SECONDS = 8.0
"""Longer than ingest waits for Kafka (6 s), so that an outage of Kafka shows as 503."""

MENDED_SECONDS = 90.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outage:
    """What was broken, how often it was killed, and how long until everything was ready again."""

    part: str
    kills: int
    seconds: float
    is_mended: bool


def check_breakable(deployment: Deployment, part: str) -> None:
    """Raise UsageError unless this part runs under an `up` whose folder we know."""
    if part not in PARTS:
        raise UsageError(f"--break {part}: say {', '.join(PARTS)}")
    if deployment.folder is None or running_pid(deployment.folder, PARTS[part]) is None:
        raise UsageError(
            f"--break {part}: it is not run by `hookline up` here, so nobody would start it again"
        )


def break_part(deployment: Deployment, part: str) -> Outage:
    """Kill a part (SIGKILL), keep it down for 8 s, and wait until everything is ready; blocks."""
    assert deployment.folder is not None  # noqa: S101 - see check_breakable
    ports = deployment.admin_ports()
    began = time.monotonic()
    kills = hold_down(deployment.folder, PARTS[part], AWAY_SECONDS)
    deadline = time.monotonic() + MENDED_SECONDS
    # Redis keeps nobody from being ready, so look at the process too.
    while running_pid(deployment.folder, PARTS[part]) is None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    is_mended = wait_until_ready(ports, deadline - time.monotonic())
    return Outage(part, kills, time.monotonic() - began, is_mended)


def hold_down(folder: Path, name: str, seconds: float) -> int:
    """Kill a process of this folder whenever it runs, for so long; returns how often."""
    kills = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid = running_pid(folder, name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        time.sleep(LOOK_SECONDS)
    return kills
