"""Breaking one part of a deployment, as a crash does, and letting its `up` mend it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ops.demo.counters import read_counters
from ops.demo.deployment import Deployment, wait_until_ready
from ops.embedded.processes import running_pid
from ops.usage import UsageError

PARTS = {
    "redis": "valkey",
    "consumer": "consumer-1",
    "postgres": "postgresql",
    "kafka": "kafka",
}
KILLS = 3
WORK_SECONDS = 5.0
"""Longest wait for consumers to work again before the next kill."""

MENDED_SECONDS = 90.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Outage:
    """What was broken, how often it was killed, and how long until everything was ready again."""

    part: str
    kills: int
    seconds: float
    is_mended: bool


def check_part(part: str) -> None:
    """Raise UsageError for a part that cannot be broken."""
    if part not in PARTS:
        raise UsageError(f"--break {part}: say {', '.join(PARTS)}")


def check_breakable(deployment: Deployment, part: str) -> None:
    """Raise UsageError unless this part runs under an `up` whose folder we know."""
    if deployment.folder is None or running_pid(deployment.folder, PARTS[part]) is None:
        raise UsageError(
            f"--break {part}: it is not run by `hookline up` here, so nobody would start it again"
        )


def break_part(deployment: Deployment, part: str) -> Outage:
    """Kill a part (SIGKILL) three times, each time once everything is ready again; blocks."""
    assert deployment.folder is not None  # noqa: S101 - see check_breakable
    folder, name, ports = deployment.folder, PARTS[part], deployment.admin_ports()
    began = time.monotonic()
    kills, is_mended = 0, True
    while kills < KILLS and is_mended:
        if kills:
            _wait_for_work(deployment.consumer_ports()[: 1 if part == "consumer" else None])
        killed = running_pid(folder, name)
        if killed is not None:
            os.kill(killed, signal.SIGKILL)
        kills += 1
        is_mended = _wait_until_mended(folder, name, killed, ports)
    return Outage(part, kills, time.monotonic() - began, is_mended)


def _wait_until_mended(folder: Path, name: str, killed: int | None, ports: list[int]) -> bool:
    """Wait for a successor of the killed process, as not everything needs it to be ready."""
    deadline = time.monotonic() + MENDED_SECONDS
    while running_pid(folder, name) in {None, killed}:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return wait_until_ready(ports, deadline - time.monotonic())


def _wait_for_work(consumers: list[int]) -> None:
    """Wait until consumers apply events again: the next kill strikes while they catch up."""
    deadline = time.monotonic() + WORK_SECONDS
    before = read_counters(consumers)
    while read_counters(consumers) == before and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
