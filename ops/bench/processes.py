"""What a process takes of the machine, by what Linux tells of it."""

import os
from pathlib import Path


def memory_of(pid: int) -> float:
    """Return the memory that a process holds, in bytes; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return float(int(fields[1]) * os.sysconf("SC_PAGE_SIZE"))


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and its children, in seconds.

    Of those that have ended and of those that run; 0 where the system does not tell.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    # Its name, in parentheses, may hold anything; user and system time, then those of the ended.
    ticks = sum(map(int, stat.rpartition(") ")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(processor_seconds(int(one)) for one in children)
