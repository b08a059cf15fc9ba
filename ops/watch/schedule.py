"""When something is due: every so often, or once a day at a time; pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta


@dataclass(slots=True)
class Every:
    """Due at once, and again so many seconds after it was done."""

    seconds: float
    clock: Callable[[], float]
    _next: float = 0.0

    def is_due(self) -> bool:
        """Tell whether it is."""
        return self.clock() >= self._next

    def done(self) -> None:
        """Note that it was done, or tried."""
        self._next = self.clock() + self.seconds


@dataclass(slots=True)
class Daily:
    """Due once a day, from a time on, UTC; not for a time that had passed when it was made."""

    at: time
    now: Callable[[], datetime]
    _next: datetime | None = None

    def __post_init__(self) -> None:
        self.done()

    def is_due(self) -> bool:
        """Tell whether it is."""
        return self._next is not None and self.now() >= self._next

    def done(self) -> None:
        """Note that it was done, or tried."""
        now = self.now()
        today = datetime.combine(now.date(), self.at, tzinfo=now.tzinfo)
        self._next = today if now < today else today + timedelta(days=1)
