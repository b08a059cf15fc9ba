"""Being stuck is a fault too: a partition with lag that does not move, a loop that does not turn.

Judged when somebody asks, not by the loop: a loop that hangs cannot say so itself.
"""

import time
from collections.abc import Callable

STILL_SECONDS = 60.0


class Progress:
    """Fed by the loop; may be asked from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned = clock()
        self._moved: dict[int, tuple[int, float]] = {}
        """By partition: its position, and since when it stands there with records to apply."""

    def turn(self) -> None:
        """Note that the loop came round."""
        self._turned = self._clock()

    def observe(self, partition: int, position: int, lag: int) -> None:
        """Note how far a partition is, and how many records wait."""
        known = self._moved.get(partition)
        if lag == 0:
            self.forget(partition)
        elif known is None or known[0] != position:
            self._moved[partition] = (position, self._clock())

    def forget(self, partition: int) -> None:
        """Drop a partition that is no longer ours."""
        self._moved.pop(partition, None)

    def stalled(self) -> list[int]:
        """Return the partitions that have had lag and made no progress for 60 seconds."""
        latest = self._clock() - STILL_SECONDS
        return sorted(p for p, (_, since) in list(self._moved.items()) if since < latest)

    def still_seconds(self) -> float:
        """Return how long ago the loop last came round."""
        return self._clock() - self._turned

    def problem(self) -> str | None:
        """Say for readiness what stands still."""
        still = self.still_seconds()
        if still > STILL_SECONDS:
            return f"the loop has not come round for {still:.0f} s: start the process anew"
        if stalled := self.stalled():
            numbers = ", ".join(map(str, stalled))
            return f"no progress for over {STILL_SECONDS:.0f} s in partitions with lag: {numbers}"
        return None
