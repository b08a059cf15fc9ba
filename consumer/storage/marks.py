"""Redis marks: this event id was applied by that record. Written after the commit, never before.

A mark is a hint. It counts only while the position of its partition, read in the transaction,
lies past the record it names: a database set back to an earlier state disowns it.
"""

from collections.abc import Iterable, Mapping

from redis.client import Pipeline

from consumer.storage.positions import Position
from schemas.redis_keys import MARK_SECONDS, Mark, mark_key

_WRITE = """
for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end
return #KEYS
"""


def read_marks(pipeline: Pipeline, event_ids: list[str]) -> None:
    """Queue the question which of these events are marked."""
    pipeline.mget([mark_key(event_id) for event_id in event_ids])


def write_marks(pipeline: Pipeline, marks: Mapping[str, Mark]) -> None:
    """Queue marks for events that stand committed."""
    keys = [mark_key(event_id) for event_id in marks]
    values = [mark.encode() for mark in marks.values()]
    pipeline.eval(_WRITE, len(keys), *keys, str(MARK_SECONDS), *values)


def backed_marks(marks: Mapping[str, Mark], positions: Iterable[Position]) -> set[str]:
    """Return the event ids whose mark the positions back; all others are "don't know"."""
    known = {position.partition: position for position in positions}
    return {
        event_id
        for event_id, mark in marks.items()
        if (position := known.get(mark.partition)) is not None
        and mark.topic_id == position.topic_id
        and mark.epoch == position.epoch
        and mark.offset < position.next_offset
    }
