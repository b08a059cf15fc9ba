"""One batch, from records to committed effects, as numbered steps.

 1  the loop polled: up to 500 records
 2  decode; what is no event of Stripe's is set aside as a dead letter
 3  drop repeats of an event id within the batch
 4  Redis, one round trip: marks, locks; unreachable or slow: go on without
 5  PostgreSQL, reading half: lock positions and customers, look up what is recorded
 6  fold in memory: event -> facts -> merge -> projection
 7  PostgreSQL, writing half, and COMMIT: effects, events, audit, dead letters, positions
 8  Redis, one round trip: drop cache entries, write marks, release locks
 9  the loop commits offsets to Kafka

Dying before COMMIT leaves nothing. Dying after it leaves the effects and the positions: Kafka
offers the batch again, the position skips it, and the sweeper finds the invalidation row.
Redis is written after the COMMIT only: a mark written before loses events for good.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from consumer.decode import Decoded, Decoder, Incoming
from consumer.errors import Halt, Reject
from consumer.failpoints import Reach, pass_by
from consumer.fold import Changes, Fold
from consumer.halt import check_our_faults
from consumer.records import Record
from consumer.storage.dead_letters import DeadLetter, resolve_letters, write_letters
from consumer.storage.hints import Hints, Seen
from consumer.storage.invalidation import Sweeper, record_invalidation
from consumer.storage.ledger import (
    Ledger,
    RecordedEvent,
    find_recorded,
    load_subscriptions,
    lock_customers,
    write_audit,
    write_customers,
    write_events,
    write_subscriptions,
)
from consumer.storage.marks import backed_marks
from consumer.storage.positions import Position, Positions
from schemas.metrics import ConsumerMetrics, type_label
from schemas.plans import Plans
from schemas.redis_keys import Mark

log = structlog.get_logger()

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of a polled batch one pass covers; all of it, unless PostgreSQL refused data."""

    move_positions: bool = True
    condemned: Mapping[Place, str] = field(default_factory=dict)
    record_condemned: bool = True


WHOLE = Scope()


class Batch:
    """Applies records; positions and effects move in one transaction."""

    def __init__(
        self,
        *,
        decoder: Decoder,
        hints: Hints,
        ledger: Ledger,
        positions: Positions,
        sweeper: Sweeper,
        plans: Plans,
        grace: timedelta,
        metrics: ConsumerMetrics,
        now: Callable[[], datetime],
        reach: Reach = pass_by,
    ) -> None:
        self._decoder = decoder
        self._hints = hints
        self._ledger = ledger
        self._positions = positions
        self._sweeper = sweeper
        self._plans = plans
        self._grace = grace
        self._metrics = metrics
        self._now = now
        self._reach = reach

    def apply(
        self, records: Sequence[Record], positions: Mapping[int, Position]
    ) -> dict[int, Position]:
        """Apply records of these partitions and return the partitions' new positions.

        Blocks. Safe to repeat with the same records. Raises Retry (nothing was applied, or it is
        in doubt and the stored position tells) or Halt.
        """
        self._metrics.batch_records.observe(len(records))
        try:
            moved = self._apply(records, positions, WHOLE)
        except Reject as reject:
            log.warning("batch_split", why=str(reject), records=len(records))
            moved = self._apply_without(self._find_culprits(records, positions), records, positions)
        self._metrics.batches.labels("applied").inc()
        return moved

    def _apply(
        self, records: Sequence[Record], positions: Mapping[int, Position], scope: Scope
    ) -> dict[int, Position]:
        with self._phase("decode"):
            decoded = self._decoder.decode(records)
        locked = sorted({event.customer for event in decoded.events if event.customer})
        with self._phase("redis_before"):
            seen = self._hints.before([event.event.id for event in decoded.events], locked)
        expected = {record.partition: positions[record.partition] for record in records}
        self._reach("after_redis_pre")

        with self._phase("transaction"), self._ledger.transaction() as connection:
            stored = self._positions.lock(connection, expected)
            pass_ = _start_pass(decoded, seen, stored)
            self._fold(connection, pass_, scope)
            self._reach("after_fold")
            check_our_faults(connection, pass_.letters, len(pass_.fresh))
            invalidation = self._write(connection, pass_.changes, pass_.letters)
            moved = _move(stored, records) if scope.move_positions else stored
            self._positions.move(connection, stored, moved)
            pass_.moved = moved
            self._reach("before_commit")
        self._reach("after_commit")

        with self._phase("redis_after"):
            changed = pass_.changes.changed_customers
            self._reach("before_redis_post")
            if self._hints.after(changed, _marks(pass_), locked) and invalidation is not None:
                self._sweeper.confirm(invalidation)
        self._count(pass_)
        return moved

    def _fold(self, connection: Connection, pass_: "_Pass", scope: Scope) -> None:
        """Read what is stored of a pass's events and customers, and fold the events into it."""
        fresh = pass_.fresh
        customers = lock_customers(connection, {e.customer for e in fresh if e.customer})
        self._reach("after_lock")
        recorded = find_recorded(connection, {e.event.id: e.created_at for e in fresh})
        named = {e.reading.subscription for e in fresh if e.reading.subscription}
        subscriptions = load_subscriptions(connection, customers, named)
        fold = Fold(self._plans, self._grace, customers, subscriptions)
        for incoming in fresh:
            known = recorded.get(incoming.event.id)
            if known is not None and known.outcome != "failed":
                continue
            place = (incoming.record.partition, incoming.record.offset)
            if place in scope.condemned:
                fold.refuse(incoming, scope.condemned[place], record=scope.record_condemned)
            else:
                fold.add(incoming, failed_before=known is not None)
        pass_.changes = fold.changes()
        pass_.letters += pass_.changes.letters
        if not scope.condemned:
            # The last pass of a split batch meets the events of its own earlier passes.
            pass_.note_recorded(recorded)

    def _write(
        self, connection: Connection, changes: Changes, letters: Sequence[DeadLetter]
    ) -> int | None:
        """Step 7 but for the positions; returns the id of the invalidation row, if one is due."""
        write_events(connection, changes.events)
        write_subscriptions(connection, changes.subscriptions)
        write_customers(connection, changes.customers)
        write_audit(connection, changes.audit)
        write_letters(connection, letters)
        resolve_letters(connection, changes.resolved)
        if not changes.changed_customers:
            return None
        return record_invalidation(connection, changes.changed_customers)

    # --- a batch with data that PostgreSQL refuses

    def _find_culprits(
        self, records: Sequence[Record], positions: Mapping[int, Position]
    ) -> dict[Place, str]:
        """Apply what can be applied, by customer, then by event; return what is refused, and why.

        Positions stay: until they move, the recorded event ids keep the applied parts from
        being applied twice.
        """
        parts = _by_key(records)
        if len(parts) == 1:
            parts = [[record] for record in records]
        culprits: dict[Place, str] = {}
        for part in parts:
            try:
                self._apply(part, positions, Scope(move_positions=False))
            except Reject as reject:
                if len(part) == 1:
                    culprits[part[0].partition, part[0].offset] = str(reject)
                else:
                    culprits |= self._find_culprits(part, positions)
        return culprits

    def _apply_without(
        self,
        culprits: Mapping[Place, str],
        records: Sequence[Record],
        positions: Mapping[int, Position],
    ) -> dict[int, Position]:
        """Set the culprits aside and move the positions past the whole batch."""
        try:
            return self._apply(records, positions, Scope(condemned=culprits))
        except Reject:
            log.warning("failed_events_not_recordable", events=len(culprits))
        try:
            return self._apply(
                records, positions, Scope(condemned=culprits, record_condemned=False)
            )
        except Reject as reject:
            raise Halt(f"PostgreSQL refuses even the dead letter of an event: {reject}") from reject

    # --- metrics

    def _phase(self, name: str) -> AbstractContextManager[object]:
        return self._metrics.batch_seconds.labels(name).time()

    def _count(self, pass_: "_Pass") -> None:
        """Count what one committed pass did, and write its one log line."""
        metrics, changes = self._metrics, pass_.changes
        kinds = Counter((type_label(r["type"]), r["outcome"], r["reason"]) for r in changes.events)
        for (type_, outcome, reason), count in kinds.items():
            metrics.events.labels(type_, outcome, reason or "").inc(count)
        for reason, count in Counter(letter.reason for letter in pass_.letters).items():
            metrics.dead_letters.labels(reason).inc(count)
        for layer, count in pass_.duplicates.items():
            metrics.duplicates.labels(layer).inc(count)
        for event_id in pass_.second_renderings:
            metrics.second_renderings.inc()
            log.warning("second_rendering", event_id=event_id)
        metrics.locks_held.inc(pass_.seen.locks_held_by_others)
        metrics.unmapped_prices.inc(changes.unmapped)
        metrics.ambiguous.inc(changes.ambiguous)
        now = self._now()
        for incoming in pass_.fresh:
            delay = (now - incoming.received_at).total_seconds()
            metrics.end_to_end_seconds.observe(max(delay, 0))
        log.info(
            "batch_applied",
            events=len(changes.events),
            customers=len(changes.changed_customers),
            dead_letters=len(pass_.letters),
            duplicates=sum(pass_.duplicates.values()),
            positions={p: position.next_offset for p, position in pass_.moved.items()},
        )


@dataclass(slots=True)
class _Pass:
    """What one pass over records found and changed."""

    seen: Seen
    stored: dict[int, Position]
    fresh: list[Incoming]
    duplicates: dict[str, int]
    second_renderings: list[str]
    letters: list[DeadLetter]
    changes: Changes = field(default_factory=Changes)
    moved: dict[int, Position] = field(default_factory=dict)

    def note_recorded(self, recorded: Mapping[str, RecordedEvent]) -> None:
        """Count events that are recorded already, and those that came in another rendering."""
        known = [event for event in self.fresh if event.event.id in recorded]
        self.duplicates["event_id"] = sum(
            recorded[event.event.id].outcome != "failed" for event in known
        )
        self.second_renderings += [
            event.event.id
            for event in known
            if recorded[event.event.id].api_version != event.event.api_version
        ]


def _start_pass(decoded: Decoded, seen: Seen, stored: dict[int, Position]) -> _Pass:
    """Drop what the positions or the marks know as applied."""
    ahead = [event for event in decoded.events if _is_ahead(event.record, stored)]
    marked = backed_marks(seen.marks, stored.values())
    fresh = [event for event in ahead if event.event.id not in marked]
    duplicates = {
        "batch": decoded.repeats,
        "position": len(decoded.events) - len(ahead),
        "redis": len(ahead) - len(fresh),
    }
    letters = [letter for letter in decoded.letters if _is_ahead(letter.record, stored)]
    return _Pass(seen, stored, fresh, duplicates, list(decoded.second_renderings), letters)


def _is_ahead(record: Record, stored: Mapping[int, Position]) -> bool:
    return record.offset >= stored[record.partition].next_offset


def _move(stored: Mapping[int, Position], records: Sequence[Record]) -> dict[int, Position]:
    """Return the positions after these records; one that is further on already stays."""
    moved = dict(stored)
    for record in records:
        position = moved[record.partition]
        if record.offset >= position.next_offset:
            moved[record.partition] = position.moved_to(record.offset + 1)
    return moved


def _marks(pass_: _Pass) -> dict[str, Mark]:
    """Mark what stands recorded now; a failed event gets none, or it would not be tried again."""
    failed = {letter.event_id for letter in pass_.changes.letters}
    return {
        event.event.id: Mark(
            position.topic_id, position.epoch, event.record.partition, event.record.offset
        )
        for event in pass_.fresh
        if event.event.id not in failed
        for position in (pass_.stored[event.record.partition],)
    }


def _by_key(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by Kafka key, which is the customer, each group in order."""
    groups: dict[bytes | None, list[Record]] = {}
    for record in records:
        groups.setdefault(record.key, []).append(record)
    return list(groups.values())
