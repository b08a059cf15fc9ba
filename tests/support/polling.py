"""Waiting for something to become true: with a deadline, never by sleeping and hoping."""

import time
from collections.abc import Callable


def eventually(is_true: Callable[[], bool], seconds: float = 30.0, what: str = "it") -> None:
    """Poll until true; raises AssertionError after the deadline."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.05)
