"""I1, nothing is lost, and I2, nothing has its effect twice."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from consumer.records import Record
from consumer.storage.history import allow_endless_statements, snapshot
from consumer.storage.removals import Removals, load_removals
from ops.counting import count
from ops.invariants.event_log import Bounds, EventLog
from ops.invariants.positions import load_positions
from ops.invariants.subject import Finding, Looking, NotChecked, Sent, Subject, chunks
from schemas.stripe_event import BadEvent, customer_of, decode_event

RECORDS_AT_ONCE = 500

# Bounded by created_at on both sides, or every partition of the table would be searched.
_KNOWN = text("""
SELECT stored.event_id, stored.outcome = 'failed' AS failed
FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[])) AS asked (event_id, created_at)
JOIN webhook_events AS stored USING (created_at, event_id)
WHERE stored.created_at BETWEEN :least AND :greatest
""")
_KNOWN_BY_ID = text("""
SELECT event_id FROM webhook_events WHERE event_id = ANY(CAST(:ids AS text[]))
""")
_OPEN_LETTERS = text("""
SELECT event_id FROM dead_letters
WHERE event_id = ANY(CAST(:ids AS text[])) AND resolved_at IS NULL
""")
_LETTERS = text("""
SELECT event_id, partition, kafka_offset FROM dead_letters
WHERE event_id = ANY(CAST(:ids AS text[]))
   OR (topic = :topic AND partition = :partition AND kafka_offset = ANY(CAST(:offsets AS bigint[])))
""")
_DOUBLED = """
SELECT customer_id, event_id, action, count(*) AS entries FROM billing_audit {scope}
GROUP BY customer_id, event_id, subscription_id, action HAVING count(*) > 1
"""
_TWICE = """
SELECT min(customer_id) AS customer_id, event_id, count(*) AS entries FROM webhook_events {scope}
GROUP BY event_id HAVING count(*) > 1
"""
_SCOPE = "WHERE customer_id = ANY(CAST(:customers AS text[]))"


def find_missing(connection: Connection, events: Mapping[str, Sent]) -> set[str]:
    """Return the ids of those events that do not stand recorded."""
    missing = set(events)
    dated = {id_: sent.created_at for id_, sent in events.items() if sent.created_at is not None}
    for ids in chunks(dated):
        missing -= _find_known(connection, {id_: dated[id_] for id_ in ids}).keys()
    for ids in chunks(events.keys() - dated.keys()):
        missing.difference_update(connection.scalars(_KNOWN_BY_ID, {"ids": ids}))
    return missing


def _find_known(connection: Connection, created: Mapping[str, datetime]) -> dict[str, bool]:
    """Return the recorded ones of these events, and whether they stand as failed."""
    if not created:
        return {}
    asked = {
        "ids": list(created),
        "times": list(created.values()),
        "least": min(created.values()),
        "greatest": max(created.values()),
    }
    return {row.event_id: row.failed for row in connection.execute(_KNOWN, asked)}


# --- I1


def check_loss(subject: Subject) -> Looking:
    """Every accepted event is recorded or set aside: by the sender's ledger, by the log, or both.

    The log is read from the last records before each position backwards, as far as `records`
    says and Kafka still holds them.
    """
    looked: list[str] = []
    if subject.accepted is not None:
        yield from _check_accepted(subject.engine, subject.accepted)
        looked.append(f"{count(len(subject.accepted), 'event')} answered 200")
    if subject.log is not None and subject.records != 0:
        looked.append((yield from _check_log(subject, subject.log)))
    if not looked:
        raise NotChecked("no list of accepted events was given, and no records are to be read")
    return ", ".join(looked)


def _check_accepted(engine: Engine, accepted: Mapping[str, Sent]) -> Iterator[Finding]:
    with snapshot(engine) as connection:
        missing = sorted(find_missing(connection, accepted))
        for ids in chunks(missing):
            aside = set(connection.scalars(_OPEN_LETTERS, {"ids": ids}))
            removals = load_removals(connection, {accepted[id_].customer for id_ in ids})
            for event_id in ids:
                sent = accepted[event_id]
                if event_id in aside or _is_removed(removals, sent):
                    continue
                what = f"{event_id} was answered 200 and is not applied"
                yield Finding("I1", sent.customer, what)


def _is_removed(removals: Removals, sent: Sent) -> bool:
    return sent.created_at is not None and removals.covers(
        sent.customer, sent.created_at, sent.created_at
    )


def _check_log(subject: Subject, log: EventLog) -> Looking:
    topic_id, bounds = log.topic_id(), log.bounds()
    positions = _load_positions(subject, log, topic_id)
    for partition, (low, _) in bounds.items():
        position = positions.get(partition, low)
        if position < low:
            what = f"the records {position} to {low - 1} left Kafka before they were applied"
            yield Finding("I1", f"partition {partition}", what)
    ranges = choose_ranges(bounds, positions, subject.records)
    seen = 0
    for partition, (first, end) in ranges.items():
        for records in chunks(log.read(partition, first, end), RECORDS_AT_ONCE):
            seen += len(records)
            lost = _find_lost(subject.engine, records)
            # Looked at again: a database that was set back meanwhile gets them from Kafka again.
            position = _load_positions(subject, log, topic_id).get(partition, 0) if lost else 0
            for record, name in lost:
                if record.offset < position:
                    what = f"{name} is neither recorded nor a dead letter"
                    yield Finding("I1", f"partition {partition}, offset {record.offset}", what)
    spans = (f"{p}: {first:,} to {end - 1:,}" for p, (first, end) in ranges.items() if first < end)
    where = f" ({'; '.join(spans)})" if seen else ""
    return f"{count(seen, 'applied record')} of the log by partition{where}"


def choose_ranges(
    bounds: Mapping[int, Bounds], positions: Mapping[int, int], most: int | None
) -> dict[int, Bounds]:
    """Return which applied records to read: the last ones of each partition, `most` in all."""
    whole = {
        partition: Bounds(low, min(positions[partition], end))
        for partition, (low, end) in sorted(bounds.items())
        if partition in positions
    }
    if most is None:
        return whole
    left, chosen = most, {}
    # The short ones first: what they leave over goes to the long ones.
    for place, (partition, (low, end)) in enumerate(
        sorted(whole.items(), key=lambda item: item[1].end - item[1].low)
    ):
        share = left // (len(whole) - place)
        first = max(low, end - share)
        chosen[partition] = Bounds(first, max(first, end))
        left -= max(end - first, 0)
    return dict(sorted(chosen.items()))


def _load_positions(subject: Subject, log: EventLog, topic_id: str) -> dict[int, int]:
    """Return the positions in the topic that is there; another one of its name is I5's to tell."""
    stored = load_positions(subject.engine, subject.group, log.topic)
    return {
        p: position.next_offset for p, position in stored.items() if position.topic_id == topic_id
    }


@dataclass(frozen=True, slots=True)
class _Named:
    """A record with the event that is read from it, if one is."""

    record: Record
    event_id: str | None
    created_at: datetime | None
    customer: str | None = None


def _find_lost(engine: Engine, records: Sequence[Record]) -> list[tuple[Record, str]]:
    """Return the records of one partition of which nothing stands anywhere, with their names."""
    named = [_name(record) for record in records]
    created = {n.event_id: n.created_at for n in named if n.event_id and n.created_at}
    with engine.connect() as connection:
        known = _find_known(connection, created)
        # A failed event told nothing: without its dead letter nobody can replay it.
        rest = [n for n in named if n.event_id is None or known.get(n.event_id, True)]
        ids, places = _find_letters(connection, rest)
        lost = [
            n
            for n in rest
            if n.event_id not in ids and (n.record.partition, n.record.offset) not in places
        ]
        removals = load_removals(connection, {n.customer for n in lost if n.customer})
    return [
        (n.record, _describe(n, known))
        for n in lost
        if not removals.covers(n.customer, n.created_at, n.record.timestamp)
    ]


def _find_letters(
    connection: Connection, named: Collection[_Named]
) -> tuple[set[str], set[tuple[int, int]]]:
    if not named:
        return set(), set()
    one = next(iter(named)).record
    rows = connection.execute(
        _LETTERS,
        {
            "ids": [n.event_id for n in named if n.event_id],
            "topic": one.topic,
            "partition": one.partition,
            "offsets": [n.record.offset for n in named],
        },
    ).all()
    return {row.event_id for row in rows if row.event_id}, {
        (row.partition, row.kafka_offset) for row in rows
    }


def _name(record: Record) -> _Named:
    try:
        event = decode_event(record.body or b"")
    except BadEvent:
        return _Named(record, None, None)
    created_at = datetime.fromtimestamp(event.created, UTC)
    return _Named(record, event.id, created_at, customer_of(event))


def _describe(named: _Named, known: Mapping[str, bool]) -> str:
    if named.event_id is None:
        return "the record, which is no event,"
    return f"{named.event_id}{', which failed,' if named.event_id in known else ''}"


# --- I2


def check_doubles(subject: Subject) -> Looking:
    """No event stands twice, or has left the same audit entry twice.

    PostgreSQL groups the whole tables: on millions of rows this takes minutes, and locks nothing.
    """
    scope = _SCOPE if subject.customers is not None else ""
    with snapshot(subject.engine) as connection:
        allow_endless_statements(connection)
        for statement, words in ((_DOUBLED, "had its effect"), (_TWICE, "stands recorded")):
            rows = connection.execute(
                text(statement.format(scope=scope)),
                {"customers": list(subject.customers)} if subject.customers is not None else {},
                execution_options={"stream_results": True},
            )
            for row in rows:
                what = f"{row.event_id} {words} {row.entries} times"
                yield Finding("I2", row.customer_id or "no customer", what)
    whose = "everybody" if subject.customers is None else count(len(subject.customers), "customer")
    return f"events and audit entries of {whose}"
