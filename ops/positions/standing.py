"""Where a partition stands: its position against its log, judged as a consumer does; pure."""

from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from consumer.positioning import Gap, judge
from consumer.storage.positions import Position
from ops.counting import count
from ops.usage import UsageError


class State(StrEnum):
    """What a partition's position is worth: well, or why not, gaps by the names of `Gap`."""

    OK = "ok"
    NO_POSITION = "no_position"
    """No consumer of the group has had it yet."""
    NO_PARTITION = "no_partition"
    """The topic has fewer partitions than when the position was stored."""
    BEFORE_LOG = Gap.BEFORE_LOG
    PAST_END = Gap.PAST_END
    OTHER_TOPIC = Gap.OTHER_TOPIC


GAPS = frozenset(State(gap) for gap in Gap)
"""What stops a partition until an operator decides."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition; `log` is its first offset and the one after its last."""

    partition: int
    topic_id: str
    log: tuple[int, int] | None
    position: Position | None
    committed: int | None

    @property
    def state(self) -> State:
        """What is wrong with it, or nothing."""
        if self.log is None:
            return State.NO_PARTITION
        if self.position is None:
            return State.NO_POSITION
        return State(judge(self.position, self.topic_id, self.log) or State.OK)

    @property
    def lag(self) -> int | None:
        """Records that wait; None where that cannot be said."""
        if self.state != State.OK or self.log is None or self.position is None:
            return None
        return self.log[1] - self.position.next_offset

    def sentence(self) -> str:
        """Say in words how it stands."""
        next_ = self.position.next_offset if self.position else 0
        first, end = self.log or (0, 0)
        match self.state:
            case State.OK:
                return "ok"
            case State.NO_POSITION:
                return "no position yet"
            case State.NO_PARTITION:
                return "the topic has no such partition any more"
            case State.BEFORE_LOG:
                missing = count(first - next_, "record")
                return f"out of range: the log begins at {first}, {missing} missing"
            case State.PAST_END:
                return (
                    f"past the end: the log was cut at {end}, {count(next_ - end, 'record')} less"
                )
            case State.OTHER_TOPIC:
                return "other topic id: the topic was deleted and made again"


def target_of(standing: Standing, to: str) -> Position:
    """Return the position that `--to` means, in the topic of now; raises UsageError."""
    assert standing.position is not None  # noqa: S101 - a gap has both, for the type checker
    assert standing.log is not None  # noqa: S101 - same
    first, end = standing.log
    named = {"beginning": first, "end": end}
    if to not in named and not (to.isascii() and to.isdigit()):
        raise UsageError("--to: give beginning, end or an offset")
    offset = named[to] if to in named else int(to)
    if not first <= offset <= end:
        raise UsageError(
            f"--to {offset}: the log of partition {standing.partition} holds {first} to {end}"
        )
    return replace(
        standing.position,
        topic_id=standing.topic_id,
        next_offset=offset,
        epoch=standing.position.epoch + 1,
    )


def consequences(standing: Standing, target: Position) -> list[str]:
    """Say what going on there gives up and what it reads again, a sentence each."""
    position, log = standing.position, standing.log
    assert position is not None  # noqa: S101 - as above
    assert log is not None  # noqa: S101 - same
    first, end = log
    said = [f"partition {standing.partition}: {standing.sentence()}."]
    if standing.state == State.BEFORE_LOG:
        said.append(
            f"Given up: {spread(position.next_offset, first)}, which the log does not hold any "
            "more. Stripe lists its events for 30 days."
        )
    elif standing.state == State.OTHER_TOPIC:
        said.append(
            f"Given up: whatever the old topic held from offset {position.next_offset} on; "
            "nobody knows how much that was."
        )
    if target.next_offset > first:
        left_out = f"{spread(first, target.next_offset)}, which the log holds"
        new = "" if standing.state == State.BEFORE_LOG else ": what of it was never applied is lost"
        said.append(f"Given up as well: {left_out}{new}.")
    if target.next_offset < end:
        said.append(
            f"Read: {spread(target.next_offset, end)}. What is applied already is known by its "
            "event id and changes nothing."
        )
    said.append(f"Goes on at offset {target.next_offset}, epoch {target.epoch}.")
    return said


def spread(first: int, end: int) -> str:
    """Name a range of offsets by its first and last, and how many that is."""
    if end - first == 1:
        return f"offset {first}, 1 record"
    return f"offsets {first} to {end - 1}, {count(end - first, 'record')}"
