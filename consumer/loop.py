"""Poll, assign, revoke, pause, seek, commit, stop. It knows no business.

A partition is waiting, active or stopped (consumer/assignment.py). Whatever goes wrong between
us and PostgreSQL sends partitions back to waiting: their positions are loaded again, which also
settles a COMMIT whose answer was lost.
"""

import os
import time
from collections.abc import Callable, Iterable

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from consumer.assignment import Assignment
from consumer.backoff import Backoff
from consumer.batch import Batch
from consumer.contention import Contention
from consumer.errors import Cause, Halt, Retry, is_gap
from consumer.failpoints import Reach, pass_by
from consumer.kafka import ClientErrors, Cluster, OnCommit, OnError, poll_records, to_record
from consumer.lag import Lag
from consumer.positioning import Positioning, Start
from consumer.progress import Progress
from consumer.records import Record
from consumer.storage.ledger import Ledger
from consumer.storage.positions import Positions
from schemas.labels import Layer, Rebalance
from schemas.metrics import ConsumerMetrics

log = structlog.get_logger()

BATCH_RECORDS = 500
POLL_SECONDS = 0.2
FILL_SECONDS = 0.005
COMMIT_EVERY_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 5.0
"""How often a stopped partition is looked at: an operator may have accepted its gap."""

Housekeeping = Callable[[], None]


class Loop:
    """One member of the consumer group; `run` blocks until `stop`."""

    def __init__(
        self,
        *,
        connect: Callable[[OnCommit, OnError], Consumer],
        cluster: Cluster,
        topic: str,
        ledger: Ledger,
        positions: Positions,
        batch: Batch,
        metrics: ConsumerMetrics,
        housekeeping: Housekeeping,
        reach: Reach = pass_by,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._errors = ClientErrors()
        self._consumer = connect(self._on_commit, self._errors.note)
        self._cluster = cluster
        self._topic = topic
        self._ledger = ledger
        self._positioning = Positioning(cluster, ledger, positions)
        self._metrics = metrics
        self._housekeeping = housekeeping
        self._reach = reach
        self._clock = clock
        self._contention = Contention(
            batch, ledger, metrics, is_stopping=lambda: self._stopping, clock=clock, sleep=sleep
        )
        self._lag = Lag(metrics)
        self._progress = Progress(clock)
        self._assignment = Assignment()
        self._ends: dict[int, tuple[int, int]] = {}
        self._last_house = clock()
        self._last_look = clock()
        self._backoff = Backoff(clock)
        self._stopping = False
        self._pid = os.getpid()
        metrics.stalled_partitions.set_function(lambda: len(self._progress.stalled()))
        metrics.loop_seconds.set_function(self._progress.still_seconds)

    def stop(self) -> None:
        """Ask the loop to finish the batch and leave; safe to call from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Consume until stopped; raises Halt. The group is left in order either way."""
        if os.getpid() != self._pid:
            raise Halt("the process was forked after its Kafka client was made: start it anew")
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        try:
            while not self._stopping:
                self._progress.turn()
                self._settle()
                self._apply(self._poll())
                self._pass_ends()
                self._keep_house()
        finally:
            # Commits as it gives the partitions back, if the brokers answer in time.
            self._consumer.close()
            self._ledger.close()

    def kafka_problem(self) -> str | None:
        """Say for readiness what is wrong with the brokers or our partitions."""
        if stopped := self._assignment.stopped:
            return "; ".join(f"partition {p}: {why}" for p, why in sorted(stopped.items()))
        return self._errors.problem

    def database_problem(self) -> str | None:
        """Say for readiness why PostgreSQL does not take our batches."""
        return self._backoff.problem

    def progress_problem(self) -> str | None:
        """Say for readiness what has stood still for 60 seconds."""
        return self._progress.problem()

    # --- polling

    def _poll(self) -> list[Record]:
        try:
            # The sweep of the cache is promised for every second, so nothing waits past it.
            due = self._last_house + COMMIT_EVERY_SECONDS - self._clock()
            seconds = min(POLL_SECONDS, max(due, 0.0))
            messages = poll_records(self._consumer, BATCH_RECORDS, seconds, FILL_SECONDS)
        except KafkaException as error:
            self._errors.note(error.args[0])
            messages = []
        self._errors.check()
        expected = {p: position.next_offset for p, position in self._assignment.active.items()}
        records = [record for message in messages if (record := self._admit(message, expected))]
        # An error behind records of the same partition has sent it back to waiting.
        active = self._assignment.active
        records = [record for record in records if record.partition in active]
        self._lag.polled(records)
        return records

    def _admit(self, message: Message, expected: dict[int, int]) -> Record | None:
        """Let a message pass if it is the next one of an active partition."""
        partition, offset = message.partition(), message.offset()
        error = message.error()
        at_end = error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - public constant
        if error and not at_end:
            self._errors.note(error)
            if is_gap(error) and partition is not None and self._assignment.get(partition):
                # Back to waiting: the range of the log tells whether there is a gap.
                self._assign_anew(partition)
                expected.pop(partition, None)
            return None
        if partition not in expected or offset is None:
            return None
        if offset < expected[partition]:
            self._metrics.duplicates.labels(Layer.POSITION).inc(not at_end)
            return None
        if offset > expected[partition] and not self._is_known_gap(partition, expected[partition]):
            del expected[partition]
            return None
        if at_end:
            self._ends[partition] = expected[partition], offset
            return None
        expected[partition] = offset + 1
        return to_record(message)

    def _assign_anew(self, partition: int) -> None:
        """Send a partition back to waiting whose client refuses to seek, as it has given it up."""
        at = TopicPartition(self._topic, partition, OFFSET_BEGINNING)
        self._consumer.incremental_unassign([at])
        self._consumer.incremental_assign([at])
        self._pause([partition])

    def _is_known_gap(self, partition: int, expected: int) -> bool:
        """Believe that offsets are missing only when Kafka shows the same gap twice.

        Compaction and transaction markers leave gaps for good; a record that the client dropped
        on the way would be lost for good, so the first time we ask again.
        """
        owned = self._assignment.get(partition)
        if owned is None or owned.missing_at == expected:
            return True
        owned.missing_at = expected
        try:
            self._seek(partition, expected)
        except KafkaException:
            # The client gave the partition up meanwhile; why stands further on in this poll.
            self._assign_anew(partition)
        return False

    def _pass_ends(self) -> None:
        """Move positions past what stands behind the last record of a log, such as markers."""
        ends, self._ends = self._ends, {}
        active = self._assignment.active
        after = {
            partition: active[partition].moved_to(end)
            for partition, (expected, end) in ends.items()
            if partition in active and expected == active[partition].next_offset < end
        }
        if not after:
            return
        try:
            self._assignment.move(self._positioning.skip(active, after))
        except Retry as retry:
            self._fall_back(retry)

    # --- applying

    def _apply(self, records: list[Record]) -> None:
        if not records:
            return
        self._reach("after_poll")
        try:
            for moved in self._contention.apply(records, self._assignment.active):
                self._lag.applied(self._assignment.active, moved)
                self._assignment.move(moved)
                self._backoff.worked()
        except Retry as retry:
            self._fall_back(retry, writing=True)

    def _fall_back(self, retry: Retry, *, writing: bool = False) -> None:
        """Send all active partitions back to waiting, and try again later."""
        active = self._assignment.active
        log.warning("paused", cause=retry.cause, why=str(retry), partitions=sorted(active))
        self._pause(active)
        self._ledger.close()
        self._backoff.failed(str(retry), writing=writing and retry.cause is Cause.AWAY)

    # --- waiting -> active

    def _settle(self) -> None:
        """Load the positions of waiting partitions, seek there, let records flow."""
        now = self._clock()
        due = self._assignment.waiting
        if now - self._last_look > LOOK_AGAIN_SECONDS:
            self._last_look = now
            due |= self._assignment.stopped.keys()
        if not due or not self._backoff.is_over:
            return
        before = self._assignment.known
        try:
            starts = self._positioning.find(due)
            for start in starts:
                self._place(start)
        except Retry as retry:
            log.warning("positions_not_loaded", why=str(retry))
            if retry.cause is Cause.KAFKA:
                self._errors.problem = str(retry)
            self._backoff.failed(None if retry.cause is Cause.KAFKA else str(retry))
        except KafkaException as error:
            self._errors.note(error.args[0])
            self._backoff.failed()
        else:
            self._backoff.read()
            if any(start.is_beyond(before) for start in starts):
                # The COMMIT whose answer was lost stands: no batch will come to say that it works.
                self._backoff.worked()
        self._count_partitions()

    def _place(self, start: Start) -> None:
        position, partition = start.position, start.position.partition
        if start.gap:
            if self._assignment.stop(position, start.gap):
                log.error("partition_stopped", partition=partition, why=start.gap)
            return
        self._seek(partition, position.next_offset)
        self._consumer.resume([TopicPartition(self._topic, partition)])
        self._assignment.activate(position)
        log.info("partition_active", partition=partition, position=position.next_offset)

    def _seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(self._topic, partition, offset))

    def _pause(self, partitions: Iterable[int]) -> None:
        """Let no records of these flow until their positions are loaded again."""
        numbers = list(partitions)
        self._consumer.pause([TopicPartition(self._topic, p) for p in numbers])
        self._assignment.wait(numbers)

    # --- rebalances; the callbacks run inside consume() and close(), so between two batches

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Only assign, paused: a failing database in here would leave partitions silent."""
        self._reach("in_assign")
        numbers = [entry.partition for entry in partitions]
        consumer.incremental_assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in numbers]
        )
        self._assignment.add(numbers)
        self._pause(numbers)
        self._backoff.hurry()
        self._metrics.rebalances.labels(Rebalance.ASSIGNED).inc()
        self._count_partitions()
        log.info("partitions_assigned", partitions=sorted(numbers))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._reach("in_revoke")
        self._commit(asynchronous=False)
        self._metrics.rebalances.labels(Rebalance.REVOKED).inc()
        self._release(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Commit nothing: the partitions may be somebody else's already."""
        self._metrics.rebalances.labels(Rebalance.LOST).inc()
        self._release(consumer, partitions)

    def _release(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = sorted(entry.partition for entry in partitions)
        consumer.incremental_unassign(partitions)
        self._assignment.remove(numbers)
        for partition in numbers:
            self._lag.forget(partition)
            self._progress.forget(partition)
        # What could not be written may be another's to write now.
        self._backoff.worked()
        self._count_partitions()
        log.info("partitions_released", partitions=numbers)

    def _count_partitions(self) -> None:
        self._metrics.partitions.set(len(self._assignment))
        self._metrics.stopped_partitions.set(len(self._assignment.stopped))
        self._metrics.waiting_partitions.set(len(self._assignment.waiting))

    # --- between batches

    def _keep_house(self) -> None:
        now = self._clock()
        if now - self._last_house < COMMIT_EVERY_SECONDS:
            return
        self._last_house = now
        self._commit(asynchronous=True)
        self._observe_lag()
        for chore in (self._housekeeping, self._look_for_kafka):
            try:
                chore()
            except Retry as retry:
                log.warning("housekeeping_postponed", why=str(retry))
        self._look_for_a_step_back()

    def _look_for_a_step_back(self) -> None:
        """Notice a database that was set back, also where no next record would tell of it."""
        try:
            self._positioning.check(self._assignment.active)
        except Retry as retry:
            self._fall_back(retry)

    def _look_for_kafka(self) -> None:
        """Ask whether the brokers are back, if they were away; raises Retry if not."""
        if self._errors.problem:
            self._cluster.topic_id()
            self._errors.problem = None

    def _observe_lag(self) -> None:
        known, active = self._assignment.known, self._assignment.active
        # The client knows the end of a log only while it fetches from it.
        ends = self._cluster.log_ends(known.keys() - active.keys())
        for partition, position in known.items():
            end = ends.get(partition)
            if end is None:
                asked = TopicPartition(self._topic, partition)
                _, end = self._consumer.get_watermark_offsets(asked, cached=True)
            owned = self._assignment.get(partition)
            lag = self._lag.observe(position, end, owned.committed if owned else None)
            self._progress.observe(partition, position.next_offset, lag)

    def _commit(self, *, asynchronous: bool) -> None:
        """Tell Kafka our positions: a hint for tools, which nothing in here reads."""
        due = [TopicPartition(self._topic, p, o) for p, o in self._assignment.uncommitted.items()]
        if not due:
            return
        self._reach("before_offset_commit")
        try:
            if asynchronous:
                self._consumer.commit(offsets=due, asynchronous=True)
            else:
                self._consumer.commit(offsets=due, asynchronous=False)
            self._reach("after_offset_commit")
        except KafkaException as error:
            log.warning("offsets_not_committed", why=error.args[0].str())

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            log.warning("offsets_not_committed", why=error.str())
            return
        for entry in partitions:
            owned = self._assignment.get(entry.partition)
            if entry.error is None and owned is not None:
                owned.committed = entry.offset
