"""A batch with data that PostgreSQL refuses: apply all but the culprits, and set those aside."""

from collections.abc import Callable, Sequence

import structlog

from consumer.errors import Halt, Reject
from consumer.passes import Place, Scope
from consumer.records import Record
from consumer.storage.positions import Position

log = structlog.get_logger()

Apply = Callable[[Sequence[Record], Scope], dict[int, Position]]
"""One pass: a transaction of its own. Raises Reject for data that PostgreSQL refuses."""


def apply_around_refused(apply: Apply, records: Sequence[Record]) -> dict[int, Position]:
    """Apply what can be applied, set the rest aside, and return the moved positions.

    Raises Halt where even a dead letter is refused, and what a pass raises.
    """
    culprits = _find_culprits(apply, records)
    try:
        return apply(records, Scope(condemned=culprits))
    except Reject:
        log.warning("failed_events_not_recordable", events=len(culprits))
    try:
        return apply(records, Scope(condemned=culprits, record_condemned=False))
    except Reject as reject:
        raise Halt(f"PostgreSQL refuses even the dead letter of an event: {reject}") from reject


def _find_culprits(apply: Apply, records: Sequence[Record]) -> dict[Place, str]:
    """Apply what can be applied, by customer, then by event; return what is refused, and why.

    Positions stay: until they move, the recorded event ids keep the applied parts from being
    applied twice.
    """
    parts = _by_key(records)
    if len(parts) == 1:
        parts = [[record] for record in records]
    culprits: dict[Place, str] = {}
    for part in parts:
        try:
            apply(part, Scope(move_positions=False))
        except Reject as reject:
            if len(part) == 1:
                culprits[part[0].partition, part[0].offset] = str(reject)
            else:
                culprits |= _find_culprits(apply, part)
    return culprits


def _by_key(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by Kafka key, which is the customer, each group in order."""
    groups: dict[bytes | None, list[Record]] = {}
    for record in records:
        groups.setdefault(record.key, []).append(record)
    return list(groups.values())
