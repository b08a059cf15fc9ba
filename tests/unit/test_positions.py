"""A partition's standing: each kind of gap by name, and what going past it gives up."""

import pytest

from consumer.storage.positions import Position
from ops.positions.standing import GAPS, Standing, State, consequences, target_of
from ops.usage import UsageError

OLD = "topic-of-then"
NOW = "topic-of-now"


def standing(
    next_offset: int | None, log: tuple[int, int] | None = (10, 20), topic_id: str = NOW
) -> Standing:
    """Return partition 3 with a position, epoch 2, against a log."""
    position = None if next_offset is None else Position(3, topic_id, next_offset, 2)
    return Standing(3, NOW, log, position, None)


@pytest.mark.parametrize(
    ("one", "state", "sentence", "lag"),
    [
        (standing(10), State.OK, "ok", 10),
        (standing(20), State.OK, "ok", 0),
        (standing(None), State.NO_POSITION, "no position yet", None),
        (standing(9), State.BEFORE_LOG,
         "out of range: the log begins at 10, 1 record missing", None),
        (standing(0), State.BEFORE_LOG,
         "out of range: the log begins at 10, 10 records missing", None),
        (standing(21), State.PAST_END, "past the end: the log was cut at 20, 1 record less", None),
        (standing(15, topic_id=OLD), State.OTHER_TOPIC,
         "other topic id: the topic was deleted and made again", None),
        (standing(5, topic_id=OLD), State.OTHER_TOPIC,
         "other topic id: the topic was deleted and made again", None),
        (standing(5, None), State.NO_PARTITION, "the topic has no such partition any more", None),
    ],
)  # fmt: skip
def test_each_standing_has_its_words(
    one: Standing, state: State, sentence: str, lag: int | None
) -> None:
    """What the consumer's loop stops at is a gap; the position of another topic means nothing."""
    assert (one.state, one.sentence(), one.lag) == (state, sentence, lag)
    assert (one.state in GAPS) == (state in {"before_log", "past_end", "other_topic"})


@pytest.mark.parametrize(
    ("one", "to", "offset", "said"),
    [
        (standing(4), "beginning", 10, [
            "Given up: offsets 4 to 9, 6 records, which the log does not hold any more.",
            "Read: offsets 10 to 19, 10 records."]),
        (standing(4), "12", 12, [
            "Given up: offsets 4 to 9, 6 records",
            "Given up as well: offsets 10 to 11, 2 records, which the log holds.",
            "Read: offsets 12 to 19, 8 records."]),
        (standing(4), "end", 20, [
            "Given up: offsets 4 to 9, 6 records",
            "Given up as well: offsets 10 to 19, 10 records, which the log holds."]),
        (standing(25), "beginning", 10, ["Read: offsets 10 to 19, 10 records."]),
        (standing(25), "19", 19, [
            "Given up as well: offsets 10 to 18, 9 records, which the log holds: what of it was ne",
            "Read: offset 19, 1 record."]),
        (standing(15, topic_id=OLD), "beginning", 10, [
            "Given up: whatever the old topic held from offset 15 on; nobody knows",
            "Read: offsets 10 to 19, 10 records."]),
    ],
)  # fmt: skip
def test_a_gap_is_accepted_by_numbers(one: Standing, to: str, offset: int, said: list[str]) -> None:
    """What is given up and what is read again, to the record; a new epoch, the topic of now."""
    target = target_of(one, to)
    assert target == Position(3, NOW, offset, 3)
    first, *middle, last = consequences(one, target)
    assert first == f"partition 3: {one.sentence()}."
    assert len(middle) == len(said)
    assert [
        line for line, start in zip(middle, said, strict=True) if not line.startswith(start)
    ] == []
    assert last == f"Goes on at offset {offset}, epoch 3."


@pytest.mark.parametrize("to", ["9", "21", "-1", "first", "", "١٢"])
def test_a_target_lies_in_the_log(to: str) -> None:
    """A position outside would be the next gap."""
    with pytest.raises(UsageError, match="--to"):
        target_of(standing(4), to)
