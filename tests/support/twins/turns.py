"""Who runs next, and what befalls a call: how a twin lets a test decide both."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Turns(Protocol):
    """What the twins ask before each call and while they wait."""

    def now(self) -> float:
        """Return the seconds of the one clock."""

    def point(self, place: str) -> None:
        """Pass a place where others may run and where the call may fail: then it raises."""

    def wait(self, is_free: Callable[[], bool], seconds: float) -> bool:
        """Let others run until something is free; False if it was not in time."""

    def commit(
        self, place: str, effect: Callable[[], None], detach: Callable[[], None] | None = None, /
    ) -> None:
        """Do something that takes effect as a whole; where it raises, it may have happened.

        It may also happen later, if `detach` is given: that is called first, then.
        """


class RealTurns:
    """Threads take turns as the machine lets them; no call fails by itself."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def now(self) -> float:
        """Return the machine's clock."""
        return time.monotonic()

    def point(self, place: str) -> None:
        """Pass."""

    def wait(self, is_free: Callable[[], bool], seconds: float) -> bool:
        """Look again every millisecond."""
        until = time.monotonic() + seconds
        while not is_free():
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
        return True

    def commit(self, _place: str, effect: Callable[[], None], *_: object) -> None:
        """Do it."""
        effect()
