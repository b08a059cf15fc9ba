"""Ports that stay free between two starts of a process."""

import itertools
import os

from ops.embedded.ports import is_free

# Below those that the system gives to connections, which come and go by the thousand here; two
# runs at a time, whose pids are neighbours, begin far from each other.
_first = os.getpid() * 4_999
_numbers = (20_000 + number % 12_000 for number in itertools.count(_first))


def steady_port() -> int:
    """Return a loopback port that nobody uses and that no connection will take."""
    return next(port for port in _numbers if is_free(port))
