"""I5, positions lie between Kafka's commit and the log's end, and I6, everything comes to rest."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from redis import Redis
from sqlalchemy import Connection, Engine, text

from ops.counting import count
from ops.invariants.event_log import Bounds, EventLog
from ops.invariants.subject import Finding, Looking, NotChecked, Subject, chunks
from schemas.redis_keys import lock_key

LOOK_SECONDS = 0.2
SHOWN_ROWS = 100
"""Invalidation rows looked at, the oldest: what is stuck stays among them."""

_POSITIONS = text("""
SELECT partition, topic_id, next_offset FROM consumer_positions
WHERE consumer_group = :group AND topic = :topic ORDER BY partition
""")
_OLD_INVALIDATIONS = text("""
SELECT invalidation_id, customers[1] AS customer FROM cache_invalidations
WHERE created_at < now() - interval '1 second' ORDER BY invalidation_id LIMIT :rows
""")


class Stored(NamedTuple):
    """A position as it stands."""

    next_offset: int
    topic_id: str


def load_positions(engine: Engine, group: str, topic: str) -> dict[int, Stored]:
    """Return the stored positions of a group, by partition."""
    with engine.connect() as connection:
        return _load(connection, group, topic)


def _load(connection: Connection, group: str, topic: str) -> dict[int, Stored]:
    rows = connection.execute(_POSITIONS, {"group": group, "topic": topic})
    return {row.partition: Stored(row.next_offset, row.topic_id) for row in rows}


def require_log(subject: Subject) -> EventLog:
    """Return the log; raises NotChecked without one."""
    if subject.log is None:
        raise NotChecked("no Kafka was named")
    return subject.log


# --- I5


def check_positions(subject: Subject) -> Looking:
    """Hold each position between Kafka's commit and the log's end, of the topic that is there."""
    log = require_log(subject)
    # Each of the three only grows, so in this order no consumer at work can look wrong.
    committed = log.committed(subject.group)
    positions = load_positions(subject.engine, subject.group, log.topic)
    topic_id, bounds = log.topic_id(), log.bounds()
    for partition, commit in committed.items():
        stored = positions.get(partition)
        if commit > (stored.next_offset if stored else 0):
            stands = f"the position {stored.next_offset}" if stored else "there is no position"
            what = f"Kafka's committed offset is {commit}, {stands}"
            yield _at(partition, what)
    for partition, position in positions.items():
        yield from _judge(partition, position, topic_id, bounds)
    return f"{count(len(positions), 'position')}, {count(len(committed), 'committed offset')}"


def _judge(
    partition: int, position: Stored, topic_id: str, bounds: Mapping[int, Bounds]
) -> Iterator[Finding]:
    if partition not in bounds:
        yield _at(partition, "has a position, and the topic has no such partition")
    elif position.topic_id != topic_id:
        yield _at(partition, "the position is of a topic that was deleted and made again since")
    elif position.next_offset > bounds[partition].end:
        end = bounds[partition].end
        yield _at(partition, f"the position is {position.next_offset}, the log ends at {end}")


def _at(partition: int, what: str) -> Finding:
    return Finding("I5", f"partition {partition}", what)


# --- I6


def check_rest(subject: Subject) -> Looking:
    """All is applied, no invalidation row is older than a second, no lock is left.

    Polls until that is so. At the deadline, what was there at every look is a finding; where
    everything moved on, events kept coming, and nothing can be said. Without any time to wait
    there is one look, which cannot tell what stands still from what is at work.
    """
    log = require_log(subject)
    deadline = time.monotonic() + subject.rest_seconds
    lasting: dict[object, Finding] | None = None
    while True:
        found = dict(_unrest(subject, log))
        if not found:
            return "lag, invalidation rows, locks" if subject.redis else "lag, invalidation rows"
        kept = found if lasting is None else lasting
        lasting = {key: finding for key, finding in kept.items() if key in found}
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    if not subject.rest_seconds:
        raise NotChecked("not at rest now, and there was no time to see what stands still")
    if not lasting:
        raise NotChecked(
            f"events kept coming for {subject.rest_seconds:.0f} s; nothing stood still meanwhile"
        )
    yield from lasting.values()
    return f"what stood still for {subject.rest_seconds:.0f} s"


def _unrest(subject: Subject, log: EventLog) -> Iterator[tuple[object, Finding]]:
    """Yield what is not at rest now, each under a key that changes when it moves."""
    bounds = log.bounds()
    with subject.engine.connect() as connection:
        positions = _load(connection, subject.group, log.topic)
        old = connection.execute(_OLD_INVALIDATIONS, {"rows": SHOWN_ROWS}).all()
    for partition, (low, end) in bounds.items():
        at = positions[partition].next_offset if partition in positions else low
        if at < end:
            what = f"not at rest: applied up to {at}, the log ends at {end}"
            yield ("lag", partition, at), Finding("I6", f"partition {partition}", what)
    for row in old:
        what = f"not at rest: invalidation row {row.invalidation_id} is older than a second"
        yield ("row", row.invalidation_id), Finding("I6", row.customer or "nobody", what)
    if subject.redis is not None:
        for key, token in _locks(subject.redis):
            customer = key.removeprefix(lock_key(""))
            yield ("lock", key, token), Finding("I6", customer, "not at rest: the lock is held")


def _locks(redis: "Redis") -> Iterator[tuple[str, bytes | str]]:
    for keys in chunks(redis.scan_iter(lock_key("*"), count=1_000)):
        for key, token in zip(keys, redis.mget(keys), strict=True):
            if token is not None:
                yield key.decode(), token
