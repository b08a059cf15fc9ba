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

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial

import structlog

from consumer.decode import Decoder
from consumer.errors import Reject
from consumer.failpoints import Reach, pass_by
from consumer.fetched import Fetched
from consumer.fold import Changes, Fold
from consumer.origins import FromKafka, FromLetters, Origin, Replayed
from consumer.passes import WHOLE, Pass, Scope, count, marks_of, start
from consumer.records import Record
from consumer.refused import apply_around_refused
from consumer.storage.hints import Hints
from consumer.storage.invalidation import Sweeper
from consumer.storage.ledger import Ledger, Transaction
from consumer.storage.positions import Position, Positions
from consumer.storage.stored_letters import StoredLetter
from consumer.telling import tell
from schemas import trace
from schemas.envelope import header
from schemas.labels import Phase, Verdict
from schemas.metrics import ConsumerMetrics
from schemas.plans import Plans
from schemas.trace import NoSpans, Spans

log = structlog.get_logger()


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
        spans: Spans | None = None,
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
        self._spans = spans or NoSpans()

    def apply(
        self, records: Sequence[Record], positions: Mapping[int, Position]
    ) -> dict[int, Position]:
        """Apply records of these partitions and return the partitions' new positions.

        Blocks. Safe to repeat with the same records. Raises Retry (nothing was applied, or it is
        in doubt and the stored position tells) or Halt.
        """
        self._metrics.batch_records.observe(len(records))
        expected = {record.partition: positions[record.partition] for record in records}
        moved = self._apply_all(FromKafka(self._positions, expected), records)
        self._metrics.batches.labels(Verdict.APPLIED).inc()
        return moved

    def replay(self, letters: Sequence[StoredLetter]) -> Replayed:
        """Apply records that were set aside, and return which dead letters are resolved now.

        No two of them may have the same place in Kafka. Effects and dead letters change in one
        transaction; no position moves. Blocks; safe to repeat, beside consumers and twice at
        once. Raises as apply does.
        """
        origin = FromLetters(letters)
        self._apply_all(origin, origin.records)
        return origin.replayed

    def learn(self, fetched: Sequence[Fetched], *, is_backfill: bool) -> Changes:
        """Merge what Stripe's API said, in one transaction, and return what was written.

        No event stands recorded for it and no position moves; the audit entries of a backfill
        are of its own kind. Blocks; safe to repeat, and beside consumers. Raises Retry (nothing
        was applied, or it is in doubt: repeat it), Reject (some of it is refused data) or Halt.
        """
        locked = sorted({one.customer for one in fetched})
        self._hints.before((), locked)
        with self._ledger.transaction() as transaction:
            customers = transaction.lock_customers(locked)
            named = {one.subscription for one in fetched if one.subscription}
            subscriptions = transaction.load_subscriptions(named)
            fold = Fold(self._plans, self._grace, customers, subscriptions)
            for one in fetched:
                fold.learn(one, is_backfill=is_backfill)
            changes = fold.changes()
            invalidation = _write(transaction, changes)
        if self._hints.after(changes.changed_customers, {}, locked) and invalidation is not None:
            self._sweeper.confirm(invalidation)
        self._metrics.unmapped_prices.inc(changes.unmapped)
        self._metrics.ambiguous.inc(changes.ambiguous)
        return changes

    def _apply_all(self, origin: Origin, records: Sequence[Record]) -> dict[int, Position]:
        traces = (header(record.headers, trace.HEADER) for record in records)
        with self._spans.batch(records[0].topic if records else "", traces) as span:
            span.note(records=len(records))
            try:
                return self._apply(origin, records, WHOLE)
            except Reject as reject:
                log.warning("batch_split", why=str(reject), records=len(records))
                return apply_around_refused(partial(self._apply, origin), records)

    def _apply(
        self, origin: Origin, records: Sequence[Record], scope: Scope
    ) -> dict[int, Position]:
        began = self._now()
        with self._phase(Phase.DECODE):
            decoded = self._decoder.decode(records)
        locked = sorted({event.customer for event in decoded.events if event.customer})
        with self._phase(Phase.REDIS_BEFORE):
            seen = self._hints.before([event.event.id for event in decoded.events], locked)
        self._reach("after_redis_pre")

        with self._phase(Phase.TRANSACTION), self._ledger.transaction() as transaction:
            pass_ = start(decoded, seen, origin.lock(transaction, records))
            self._fold(transaction, pass_, scope)
            self._reach("after_fold")
            origin.settle(transaction, pass_, records, scope)
            invalidation = _write(transaction, pass_.changes)
            self._reach("before_commit")
        self._reach("after_commit")

        with self._phase(Phase.REDIS_AFTER):
            changed = pass_.changes.changed_customers
            self._reach("before_redis_post")
            if self._hints.after(changed, marks_of(pass_), locked) and invalidation is not None:
                self._sweeper.confirm(invalidation)
        count(pass_, self._metrics, now := self._now())
        tell(pass_, (now - began).total_seconds())
        return pass_.moved

    def _fold(self, transaction: Transaction, pass_: Pass, scope: Scope) -> None:
        """Read what is stored of a pass's events and customers, and fold the events into it."""
        fresh = pass_.fresh
        customers = transaction.lock_customers({e.customer for e in fresh if e.customer})
        self._reach("after_lock")
        recorded = transaction.find_recorded({e.event.id: e.created_at for e in fresh})
        named = {e.reading.subscription for e in fresh if e.reading.subscription}
        subscriptions = transaction.load_subscriptions(named)
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

    def _phase(self, phase: Phase) -> AbstractContextManager[object]:
        return self._metrics.batch_seconds.labels(phase).time()


def _write(transaction: Transaction, changes: Changes) -> int | None:
    """Write the effects; returns the id of the invalidation row, if one is due."""
    transaction.write_events(changes.events)
    transaction.write_subscriptions(changes.subscriptions)
    transaction.write_customers(changes.customers)
    transaction.write_audit(changes.audit)
    transaction.resolve_letters(changes.resolved)
    if not changes.changed_customers:
        return None
    return transaction.record_invalidation(changes.changed_customers)
