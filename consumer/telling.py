"""The log lines of a committed pass: one of the batch, one for each record that was refused.

At debug one for each event besides. Never a payload, nor an error that may quote one: the dead
letter holds it. Ids of a record that nobody vouches for are not told either.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from consumer.passes import Pass
from consumer.records import Record
from consumer.storage.dead_letters import DeadLetter
from schemas.envelope import HEADER_LIMIT, header
from schemas.trace import HEADER, read_trace

log = structlog.get_logger()


def tell(pass_: Pass, seconds: float) -> None:
    """Write the lines of one committed pass that took so long."""
    for letter in pass_.letters:
        log.warning("set_aside", **_refused(letter))
    if log.is_enabled_for(logging.DEBUG):
        records = {incoming.event.id: incoming.record for incoming in pass_.fresh}
        for row in pass_.changes.events:
            log.debug("event", **_event(row, records))
    log.info("batch_applied", **_batch(pass_, seconds))


def _batch(pass_: Pass, seconds: float) -> dict[str, Any]:
    changes = pass_.changes
    return {
        "events": len(changes.events),
        "outcomes": dict(Counter(row["outcome"] for row in changes.events)),
        "customers": len(changes.changed_customers),
        "dead_letters": len(pass_.letters),
        "duplicates": sum(pass_.duplicates.values()),
        "positions": {p: position.next_offset for p, position in pass_.moved.items()},
        "seconds": round(seconds, 6),
    }


def _refused(letter: DeadLetter) -> dict[str, Any]:
    told = {"event_id": letter.event_id, "customer": letter.customer}
    if letter.event_id is not None:
        type_ = (header(letter.record.headers, "ce_type") or b"")[:HEADER_LIMIT]
        told["type"] = type_.decode("utf-8", "replace")
    return {"outcome": "failed", "reason": letter.reason.value, **told, **_place(letter.record)}


def _event(row: Mapping[str, Any], records: Mapping[str, Record]) -> dict[str, Any]:
    told = {
        "event_id": row["event_id"],
        "type": row["type"],
        "customer": row["customer_id"],
        "outcome": row["outcome"],
        "reason": row["reason"],
    }
    record = records.get(row["event_id"])
    return told if record is None else told | _place(record)


def _place(record: Record) -> dict[str, Any]:
    """Return where a record lies, and the trace it belongs to."""
    trace = read_trace(header(record.headers, HEADER))
    return {
        "partition": record.partition,
        "offset": record.offset,
        "trace_id": trace.trace_id if trace else None,
    }
