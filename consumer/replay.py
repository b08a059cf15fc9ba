"""Dead letters through the batch again, in parts; blocks on PostgreSQL and Redis.

Each part is one transaction, so whoever stops in between has lost nothing: what is resolved is
resolved, the rest is open. Consumers may run beside it, and another replay.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import stamina
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from consumer.errors import Retry, verdict_of
from consumer.origins import Replayed
from consumer.storage.hints import Hints, Seen
from consumer.storage.history import snapshot
from consumer.storage.ledger import Ledger
from consumer.storage.stored_letters import StoredLetter, load_letters

LETTERS_AT_ONCE = 100
"""One transaction covers so many; at most half a megabyte each stands in memory."""

ATTEMPTS = 10
ATTEMPT_SECONDS = 60.0
LOCK_WAIT_SECONDS = 5.0
LOCK_LOOK_SECONDS = 0.05


class PatientHints(Hints):
    """Redis around a part: waits for customers that a consumer works on, up to a limit.

    A batch never waits, for records queue behind it; nothing queues behind a replay. After the
    limit the row lock decides, as ever: a killed consumer's lock lives for half a minute.
    """

    def before(self, event_ids: Sequence[str], customers: Sequence[str]) -> Seen:
        """Read marks and lock customers; blocks until nobody else holds one, or five seconds."""
        give_up_at = time.monotonic() + LOCK_WAIT_SECONDS
        while True:
            seen = super().before(event_ids, customers)
            if not seen.locks_held_by_others or time.monotonic() > give_up_at:
                return seen
            time.sleep(LOCK_LOOK_SECONDS)


class Replays(Protocol):
    """What applies a part; in production the batch."""

    def replay(self, letters: Sequence[StoredLetter]) -> Replayed:
        """Apply records that were set aside; raises Retry or Halt."""


@dataclass(frozen=True, slots=True)
class Replayer:
    """Runs dead letters through the batch; for one caller at a time."""

    engine: Engine
    ledger: Ledger
    batch: Replays

    def run(self, ids: Sequence[int]) -> Iterator[Replayed]:
        """Yield what became of each part, after its commit; every id is told of exactly once.

        A database that is away or contended is tried again for a minute. Raises Retry after
        that, or Halt; the parts yielded by then stand.
        """
        waiting = deque(ids)
        while waiting:
            part = [waiting.popleft() for _ in range(min(len(waiting), LETTERS_AT_ONCE))]
            chosen, beside = apart(_patiently(self._load, part))
            done = _patiently(self._replay, chosen)
            waiting.extendleft(sorted({*done.left, *ids_of(beside)}, reverse=True))
            yield done

    def _load(self, ids: Sequence[int]) -> list[StoredLetter]:
        try:
            with snapshot(self.engine) as connection:
                return load_letters(connection, ids)
        except DBAPIError as error:
            raise verdict_of(error) from error

    def _replay(self, letters: Sequence[StoredLetter]) -> Replayed:
        try:
            return self.batch.replay(letters)
        except Retry:
            self.ledger.close()
            raise


def apart(letters: Sequence[StoredLetter]) -> tuple[list[StoredLetter], list[StoredLetter]]:
    """Split off what has the place in Kafka of another one: of another topic, or made again."""
    first: dict[tuple[int, int], StoredLetter] = {}
    beside = [
        one
        for one in letters
        if first.setdefault((one.partition, one.kafka_offset), one) is not one
    ]
    return list(first.values()), beside


def ids_of(letters: Sequence[StoredLetter]) -> list[int]:
    """Return their ids."""
    return [one.dead_letter_id for one in letters]


_patiently = stamina.RetryingCaller(attempts=ATTEMPTS, timeout=ATTEMPT_SECONDS).on(Retry)
