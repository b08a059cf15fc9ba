"""The two round trips to Redis around a batch: marks, locks and cache entries together."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.invalidation import drop_entries
from consumer.storage.locks import release_locks, take_locks
from consumer.storage.marks import read_marks, write_marks
from consumer.storage.redis_session import Session
from schemas.labels import RedisOperation
from schemas.redis_keys import Mark


@dataclass(frozen=True, slots=True)
class Seen:
    """What Redis said before the batch; empty where it did not say."""

    marks: Mapping[str, Mark] = field(default_factory=dict)
    locks_held_by_others: int = 0


class Hints:
    """Redis around a batch; whatever fails here costs time, never truth."""

    def __init__(self, redis: BoundedRedis) -> None:
        self._redis = redis
        # One for the life of the process: a lock left by a batch that was rolled back is ours.
        self._token = secrets.token_hex(16)

    def before(self, event_ids: Sequence[str], customers: Sequence[str]) -> Seen:
        """Read the marks of these events and lock these customers, in one round trip."""

        def call(session: Session) -> Seen:
            pipeline = session.client.pipeline(transaction=False)
            if customers:
                take_locks(pipeline, list(customers), self._token)
            if event_ids:
                read_marks(pipeline, list(event_ids))
            answers = pipeline.execute(raise_on_error=False)
            self._redis.note_refusals(RedisOperation.BEFORE, answers)
            return Seen(
                _marks(event_ids, answers[-1]) if event_ids else {},
                _number(answers[0]) if customers else 0,
            )

        return self._redis.ask(RedisOperation.BEFORE, call) or Seen()

    def after(
        self, changed: Sequence[str], marks: Mapping[str, Mark], locked: Sequence[str]
    ) -> bool:
        """Drop the changed customers' cache entries, mark events, unlock: one round trip.

        To be called after the commit only. True once Redis has confirmed that the entries are
        gone.
        """

        def call(session: Session) -> bool:
            pipeline = session.client.pipeline(transaction=False)
            if changed:
                drop_entries(pipeline, session.generation, list(changed))
            if marks:
                write_marks(pipeline, marks)
            if locked:
                release_locks(pipeline, list(locked), self._token)
            answers = pipeline.execute(raise_on_error=False)
            self._redis.note_refusals(RedisOperation.AFTER, answers)
            return not (changed and isinstance(answers[0], Exception))

        return bool(self._redis.ask(RedisOperation.AFTER, call))


def _marks(event_ids: Sequence[str], answer: object) -> dict[str, Mark]:
    if not isinstance(answer, list):
        return {}
    found = zip(event_ids, answer, strict=True)
    return {
        event_id: mark
        for event_id, value in found
        if value is not None and (mark := Mark.decode(value)) is not None
    }


def _number(answer: object) -> int:
    """Read a script's answer; an error, such as no memory left, counts as none."""
    return answer if isinstance(answer, int) else 0
