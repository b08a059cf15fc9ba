"""What the loop keeps in mind: positions, pauses, progress, lag, contended batches, gaps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from consumer.assignment import Assignment
from consumer.backoff import Backoff
from consumer.batch import Batch
from consumer.contention import CONTENDED_SECONDS, Contention
from consumer.errors import Cause, Retry
from consumer.lag import Lag
from consumer.positioning import find_gap
from consumer.progress import STILL_SECONDS, Progress
from consumer.records import Record
from consumer.storage.ledger import Ledger
from consumer.storage.positions import Position
from schemas.metrics import ConsumerMetrics

START = Position(0, "topic", 10)


class Clock:
    """A time that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def record(offset: int, timestamp: float = 0.0) -> Record:
    """Return a record of partition 0."""
    return Record("events", 0, offset, None, b"", datetime.fromtimestamp(timestamp, UTC))


class TestAssignment:
    """The states of a partition."""

    def test_a_partition_goes_from_waiting_to_active_and_back(self) -> None:
        """Its last position stays known while it waits; records flow only while it is active."""
        assignment = Assignment()
        assignment.add([0])
        assert (assignment.waiting, assignment.active) == ({0}, {})
        assignment.activate(START)
        assert (assignment.waiting, assignment.active) == (set(), {0: START})
        assignment.wait([0])
        assert (assignment.waiting, assignment.active) == ({0}, {})
        assert assignment.known == {0: START}

    def test_a_stopped_one_waits_for_an_operator(self) -> None:
        """It is news once, and over once its position is set."""
        assignment = Assignment()
        assignment.add([0])
        assert assignment.stop(START, "a gap")
        assert not assignment.stop(START, "a gap")
        assert (assignment.waiting, assignment.stopped) == (set(), {0: "a gap"})
        assignment.activate(START.moved_to(20))
        assert assignment.stopped == {}

    def test_only_what_kafka_does_not_hold_is_committed(self) -> None:
        """A position that Kafka holds already, or of a partition that waits, is not sent."""
        assignment = Assignment()
        assignment.add([0])
        assert assignment.uncommitted == {}
        assignment.activate(START)
        assert assignment.uncommitted == {0: 10}
        owned = assignment.get(0)
        assert owned
        owned.committed = 10
        assert assignment.uncommitted == {}
        assignment.move({0: START.moved_to(11)})
        assert assignment.uncommitted == {0: 11}
        assignment.wait([0])
        assert assignment.uncommitted == {}


def test_backoff_doubles_to_ten_seconds_and_forgets() -> None:
    """A failing server is asked less and less often, and at once after it worked."""
    clock = Clock()
    backoff = Backoff(clock)
    pauses = []
    for _ in range(10):
        backoff.failed("away")
        began = clock.now
        while not backoff.is_over:
            clock.sleep(0.01)
        pauses.append(clock.now - began)
    assert all(0.04 <= pauses[n] <= 0.1 * 2**n + 0.02 for n in range(7))
    assert max(pauses) <= 10.02
    problems = [backoff.problem]
    backoff.worked()
    assert [*problems, backoff.problem] == ["away", None]
    backoff.failed("again")
    backoff.hurry()
    assert backoff.is_over


def test_reading_does_not_end_what_writing_began() -> None:
    """A read-only database gives positions and refuses batches: readiness must not flap."""
    backoff = Backoff(Clock())

    def after(step: Callable[[], None]) -> str | None:
        step()
        return backoff.problem

    backoff.failed("positions not loaded")
    assert after(backoff.read) is None
    backoff.failed("read-only", writing=True)
    assert after(backoff.read) == "read-only"
    assert after(backoff.worked) is None
    backoff.failed("again")
    assert after(backoff.read) is None


class TestProgress:
    """Readiness fails for what stands still."""

    def test_lag_without_progress(self) -> None:
        """After a minute with lag at the same position, and no longer once it moves."""
        clock = Clock()
        progress = Progress(clock)
        for _ in range(int(STILL_SECONDS) + 2):
            progress.turn()
            progress.observe(3, 10, lag=5)
            progress.observe(4, 7, lag=0)
            clock.sleep(1)
        assert progress.stalled() == [3]
        assert "partitions with lag: 3" in (progress.problem() or "")
        progress.observe(3, 11, lag=4)
        assert progress.problem() is None

    def test_a_partition_at_rest_is_not_stuck(self) -> None:
        """Lag that was none a moment ago has its minute from now on; a lost partition has none."""
        clock = Clock()
        progress = Progress(clock)
        progress.observe(3, 10, lag=0)
        clock.sleep(STILL_SECONDS * 10)
        progress.turn()
        progress.observe(3, 10, lag=1)
        assert progress.stalled() == []
        clock.sleep(STILL_SECONDS + 1)
        assert progress.stalled() == [3]
        progress.forget(3)
        assert progress.stalled() == []

    def test_a_loop_that_hangs(self) -> None:
        """Seen by whoever asks, as the loop itself cannot say so."""
        clock = Clock()
        progress = Progress(clock)
        assert progress.problem() is None
        clock.sleep(STILL_SECONDS + 1)
        assert "has not come round for 61 s" in (progress.problem() or "")


def test_lag_is_told_three_ways() -> None:
    """Records, the age of the oldest one not applied, and the position less Kafka's commit."""
    registry = CollectorRegistry()
    time = [500.0]
    lag = Lag(ConsumerMetrics(registry), now=lambda: time[0])

    def told() -> list[float | None]:
        names = ("lag_records", "lag_seconds", "uncommitted_records", "applied_records_total")
        labels = {"partition": "0"}
        return [registry.get_sample_value(f"hookline_consumer_{name}", labels) for name in names]

    lag.polled([record(10, 440.0), record(11, 490.0)])
    assert lag.observe(START, 15, 7) == 5
    assert told() == [5, 60, 3, 0]
    time[0] = 560.0
    assert told() == [5, 120, 3, 0]  # nobody had to come round for the age to grow
    lag.applied({0: START}, {0: START.moved_to(15)})
    assert lag.observe(START.moved_to(15), 15, 15) == 0
    assert told() == [0, 0, 0, 5]
    assert lag.observe(START, -1001, None) == 0
    lag.forget(0)
    assert told() == [None, None, None, None]


@pytest.mark.parametrize(
    ("topic_id", "low", "high", "gap"),
    [
        ("topic", 0, 10, None),
        ("topic", 10, 10, None),
        ("topic", 10, 900, None),
        ("topic", 12, 900, "records 10 to 11 are gone, the log begins at 12"),
        ("topic", 0, 9, "the log was cut off: it ends at 9"),
        ("another", 0, 900, "the topic was deleted and made again"),
    ],
)
def test_a_gap_is_named(topic_id: str, low: int, high: int, gap: str | None) -> None:
    """What lies between position and log is said, with the command that leads on."""
    found = find_gap(START, topic_id, (low, high))
    assert (found or "").startswith(gap or "")
    assert (found is None) == (gap is None)
    assert found is None or "positions accept-gap --partition 0" in found


class Busy:
    """A batch whose rows others hold for a while, and a ledger that ends those who do."""

    def __init__(self, causes: Sequence[Cause]) -> None:
        self.causes = list(causes)
        self.applied: list[list[int]] = []
        self.sizes: list[int] = []
        self.ended = 0

    def apply(self, records: Sequence[Record], at: Mapping[int, Position]) -> dict[int, Position]:
        """Fail as often as told."""
        self.sizes.append(len(records))
        if self.causes:
            raise Retry(self.causes.pop(0), "held")
        self.applied.append([found.offset for found in records])
        return {0: at[0].moved_to(records[-1].offset + 1)}

    def ending_blockers(self) -> AbstractContextManager[None]:
        """Count how often a blocking session would be ended."""
        self.ended += 1
        return nullcontext()


def contention(busy: Busy, clock: Clock, is_stopping: Callable[[], bool]) -> Contention:
    """Return the thing tested."""
    return Contention(
        cast("Batch", busy),
        cast("Ledger", busy),
        ConsumerMetrics(CollectorRegistry()),
        is_stopping=is_stopping,
        clock=clock,
        sleep=clock.sleep,
    )


def go(busy: Busy, **options: Any) -> dict[int, Position]:
    """Apply four records."""
    stopping = options.get("is_stopping", lambda: False)
    parts = contention(busy, Clock(), stopping).apply(
        [record(offset) for offset in range(10, 14)], {0: START}
    )
    return [{0: START}, *parts][-1]


class TestContention:
    """Rows that others hold."""

    def test_it_is_tried_again_and_halved(self) -> None:
        """After every five tries the batch is halved, and each part moves the position."""
        busy = Busy([Cause.CONTENTION] * 10)
        assert go(busy)[0].next_offset == 14
        assert busy.sizes == [4] * 5 + [2] * 5 + [1, 1, 2]
        assert busy.applied == [[10], [11], [12, 13]]
        assert busy.ended == 0

    def test_two_lock_timeouts_in_a_row_end_the_blocker(self) -> None:
        """Not after one, nor for a deadlock in between."""
        one = Busy([Cause.BLOCKED])
        assert go(one)
        assert one.ended == 0
        mixed = Busy([Cause.BLOCKED, Cause.CONTENTION, Cause.BLOCKED])
        assert go(mixed)
        assert mixed.ended == 0
        two = Busy([Cause.BLOCKED, Cause.BLOCKED])
        assert go(two)
        assert two.ended == 1

    def test_a_database_that_is_away_is_the_loops_matter(self) -> None:
        """Other verdicts pass through at once, after what stands already."""
        with pytest.raises(Retry) as caught:
            go(Busy([Cause.CONTENTION, Cause.AWAY]))
        assert caught.value.cause is Cause.AWAY

    def test_it_does_not_leave_the_group(self) -> None:
        """After a minute the loop polls again."""
        busy = Busy([Cause.CONTENTION] * 10_000)
        with pytest.raises(Retry):
            go(busy)
        assert len(busy.sizes) * 0.5 >= CONTENDED_SECONDS / 2
        assert set(busy.sizes) == {4, 2, 1}

    def test_a_process_that_stops_does_not_wait_for_others(self) -> None:
        """The batch is left as it is; the position says where to go on."""
        busy = Busy([Cause.CONTENTION] * 10)
        assert go(busy, is_stopping=lambda: True) == {0: START}
        assert busy.sizes == [4]
