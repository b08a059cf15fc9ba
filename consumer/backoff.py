"""How long to leave a server alone after repeated failures; no I/O, the clock is passed in."""

import random
from collections.abc import Callable

LEAST_SECONDS = 0.1
MOST_SECONDS = 10.0


class Backoff:
    """Pauses that double from 0.1 s to 10 s, with jitter; `problem` is read by any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._not_before = 0.0
        self._cannot_write = False
        self.problem: str | None = None
        """What failed last, until it works again."""

    @property
    def is_over(self) -> bool:
        """Tell whether it is time for another try."""
        return self._clock() >= self._not_before

    def failed(self, problem: str | None = None, *, writing: bool = False) -> None:
        """Begin the next pause; `problem` where this server is what failed.

        Where it was `writing` that failed, only a write that works ends the matter: a database
        that is read-only or full can still be read.
        """
        pause = min(LEAST_SECONDS * 2**self._failures, MOST_SECONDS)
        self._not_before = self._clock() + pause * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._failures = min(self._failures + 1, 20)
        self.problem = problem
        self._cannot_write |= writing

    def hurry(self) -> None:
        """End the pause, as there is new work."""
        self._not_before = 0.0

    def read(self) -> None:
        """Forget all failures but those of writing."""
        if not self._cannot_write:
            self.worked()

    def worked(self) -> None:
        """Forget all failures."""
        self._cannot_write = False
        self._failures = 0
        self.problem = None
