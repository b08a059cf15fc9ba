"""Ports that stay free between two starts of a process."""

import itertools
import os

from ops.embedded.ports import is_free

# Below those that the system gives to connections, which come and go by the thousand here.
_numbers = itertools.cycle(range(20_000 + os.getpid() % 10_000, 32_000))


def steady_port() -> int:
    """Return a loopback port that nobody uses and that no connection will take."""
    return next(port for port in _numbers if is_free(port))
