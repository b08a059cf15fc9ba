"""What the machine is, as far as it decides a figure."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ops.bench.bed import Bed

LIBRARIES = ("confluent-kafka", "psycopg", "redis", "SQLAlchemy", "uvicorn", "zstandard")


def describe_machine(bed: Bed) -> dict[str, Any]:
    """Return processor, memory, versions and what a commit costs here; names no host."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "postgresql": bed.settings(),
        "kafka": "one broker, acks=all; a record is in its page cache when it is acknowledged",
        "redis": "append-only file, written to disk every second",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "shared": "servers, load generator and what is measured run on these cores together",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
