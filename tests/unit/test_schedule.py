"""When a consumer asks Stripe: every so often, or once a night."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import pytest

from ops.watch.schedule import Daily, Every

AT = time(3, 0)


@dataclass
class Clock:
    """A moment, and seconds, that a test sets."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    seconds: float = 0.0


def test_what_comes_every_so_often_is_due_at_once_and_then_so_long_after_it_was_done() -> None:
    """A consumer that starts looks at once; the time that a task takes is not counted."""
    clock = Clock(seconds=1000.0)
    every = Every(60.0, lambda: clock.seconds)
    assert every.is_due()
    clock.seconds += 500
    every.done()
    assert not every.is_due()
    clock.seconds += 59
    assert not every.is_due()
    clock.seconds += 1
    assert every.is_due()


@pytest.mark.parametrize(
    ("made", "due"),
    [
        ("2026-01-01T02:59", "2026-01-01T03:00"),
        ("2026-01-01T03:00", "2026-01-02T03:00"),
        ("2026-01-01T14:00", "2026-01-02T03:00"),
        ("2026-12-31T23:59", "2027-01-01T03:00"),
    ],
)
def test_what_comes_daily_is_due_at_the_next_such_time(made: str, due: str) -> None:
    """A consumer that starts in the afternoon does not make up for the night."""
    clock = Clock(_moment(made))
    daily = Daily(AT, lambda: clock.moment)
    clock.moment = _moment(due) - timedelta(seconds=1)
    assert not daily.is_due()
    clock.moment = _moment(due)
    assert daily.is_due()


def test_what_was_done_tonight_is_due_again_tomorrow_night() -> None:
    """Once a night, however long it takes; a night that was slept through is made up for once."""
    clock = Clock(_moment("2026-01-01T02:00"))
    daily = Daily(AT, lambda: clock.moment)
    clock.moment = _moment("2026-01-01T04:30")
    assert daily.is_due()
    daily.done()
    assert not daily.is_due()
    clock.moment = _moment("2026-01-04T12:00")
    assert daily.is_due()
    daily.done()
    assert not daily.is_due()
    clock.moment = _moment("2026-01-05T03:00")
    assert daily.is_due()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
