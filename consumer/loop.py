"""Poll, assign, revoke, pause, seek, commit, stop. It knows no business.

A partition is in one of three states: waiting (assigned and paused, its position not known),
active (position known, records flow), stopped (its log lacks what comes next; an operator
decides). Whatever goes wrong between us and PostgreSQL sends partitions back to waiting: their
positions are loaded again, which also settles a COMMIT whose answer was lost.
"""

import os
import random
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

from consumer.batch import Batch
from consumer.errors import Cause, Halt, Retry
from consumer.failpoints import Reach, pass_by
from consumer.kafka import (
    GAP_ERRORS,
    REQUEST_SECONDS,
    Cluster,
    judge_client_error,
    poll_records,
    to_record,
)
from consumer.lag import Lag
from consumer.records import Record
from consumer.storage.ledger import Ledger
from consumer.storage.positions import Position, Positions
from schemas.metrics import ConsumerMetrics

log = structlog.get_logger()

BATCH_RECORDS = 500
POLL_SECONDS = 0.2
FILL_SECONDS = 0.005
COMMIT_EVERY_SECONDS = 1.0
HALVE_AFTER = 5
"""Contended tries of one batch, after which it is halved."""

CONTENDED_SECONDS = 60.0
"""After that long, poll again: a member that does not poll is put out of the group."""

BACKOFF_SECONDS = (0.1, 10.0)

Housekeeping = Callable[[], None]
OnCommit = Callable[[KafkaError | None, list[TopicPartition]], None]


class Loop:
    """One member of the consumer group; `run` blocks until `stop`."""

    def __init__(
        self,
        *,
        connect: Callable[[OnCommit], Consumer],
        cluster: Cluster,
        topic: str,
        ledger: Ledger,
        positions: Positions,
        batch: Batch,
        metrics: ConsumerMetrics,
        housekeeping: Housekeeping,
        reach: Reach = pass_by,
    ) -> None:
        self._consumer = connect(self._on_commit)
        self._cluster = cluster
        self._topic = topic
        self._ledger = ledger
        self._positions = positions
        self._batch = batch
        self._metrics = metrics
        self._housekeeping = housekeeping
        self._reach = reach
        self._lag = Lag(metrics)
        self._assigned: set[int] = set()
        self._active: dict[int, Position] = {}
        self._stopped: dict[int, str] = {}
        self._known: dict[int, Position] = {}
        self._gaps: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._last_commit = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._problem: str | None = None
        self._stopping = False
        self._pid = os.getpid()

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
                self._settle()
                self._apply(self._poll())
                self._keep_house()
        finally:
            self._commit(asynchronous=False)
            self._consumer.close()
            self._ledger.close()

    def kafka_problem(self) -> str | None:
        """Say for readiness what is wrong with our partitions."""
        if self._stopped:
            return "; ".join(f"partition {p}: {why}" for p, why in sorted(self._stopped.items()))
        return None

    def database_problem(self) -> str | None:
        """Say for readiness why PostgreSQL does not take our batches."""
        return self._problem

    # --- polling

    def _poll(self) -> list[Record]:
        try:
            messages = poll_records(self._consumer, BATCH_RECORDS, POLL_SECONDS, FILL_SECONDS)
        except KafkaException as error:
            judge_client_error(error.args[0])
            log.warning("kafka_error", error=error.args[0].str())
            return []
        expected = {p: position.next_offset for p, position in self._active.items()}
        return [record for message in messages if (record := self._admit(message, expected))]

    def _admit(self, message: Message, expected: dict[int, int]) -> Record | None:
        """Let a message pass if it is the next one of an active partition."""
        partition, offset = message.partition(), message.offset()
        if error := message.error():
            judge_client_error(error)
            log.warning("kafka_error", error=error.str(), partition=partition)
            if error.code() in GAP_ERRORS and partition is not None:
                # Back to waiting: the range of the log tells whether there is a gap.
                self._pause([partition])
                self._active.pop(partition, None)
                expected.pop(partition, None)
            return None
        if partition not in expected or offset is None:
            return None
        if offset < expected[partition]:
            self._metrics.duplicates.labels("position").inc()
            return None
        if offset > expected[partition] and not self._is_known_gap(partition, expected[partition]):
            del expected[partition]
            return None
        expected[partition] = offset + 1
        return to_record(message)

    def _is_known_gap(self, partition: int, expected: int) -> bool:
        """Believe that offsets are missing only when Kafka shows the same gap twice.

        Compaction and transaction markers leave gaps for good; a record that the client dropped
        on the way would be lost for good, so the first time we ask again.
        """
        if self._gaps.get(partition) == expected:
            return True
        self._gaps[partition] = expected
        self._seek(partition, expected)
        return False

    # --- applying

    def _apply(self, records: list[Record]) -> None:
        work = [records] if records else []
        tries = 0
        give_up_at = time.monotonic() + CONTENDED_SECONDS
        if records:
            self._reach("after_poll")
        while work and not (tries and self._stopping):
            try:
                self._active |= self._batch.apply(work[0], self._active)
            except Retry as retry:
                self._metrics.batches.labels(retry.cause).inc()
                if retry.cause is not Cause.CONTENTION or time.monotonic() > give_up_at:
                    self._fall_back(retry)
                    return
                tries += 1
                log.info("batch_contended", tries=tries, why=str(retry))
                time.sleep(random.uniform(0.005, 0.05) * min(tries, 10))  # noqa: S311 - jitter
                if tries % HALVE_AFTER == 0 and len(work[0]) > 1:
                    half = len(work[0]) // 2
                    work[:1] = [work[0][:half], work[0][half:]]
            else:
                self._lag.applied(work.pop(0))
                self._recovered()

    def _fall_back(self, retry: Retry) -> None:
        """Send all active partitions back to waiting, and try again later."""
        log.warning("paused", cause=retry.cause, why=str(retry), partitions=sorted(self._active))
        self._pause(self._active)
        self._active.clear()
        self._ledger.close()
        self._postpone(str(retry))

    def _postpone(self, problem: str) -> None:
        least, most = BACKOFF_SECONDS
        pause = min(least * 2**self._failures, most)
        self._not_before = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._failures = min(self._failures + 1, 20)
        self._problem = problem

    def _recovered(self) -> None:
        self._failures = 0
        self._problem = None

    # --- waiting -> active

    def _settle(self) -> None:
        """Load the positions of waiting partitions, seek there, let records flow."""
        waiting = self._assigned - self._active.keys() - self._stopped.keys()
        if not waiting or time.monotonic() < self._not_before:
            return
        try:
            topic_id = self._cluster.topic_id()
            with self._ledger.transaction() as connection:
                found = self._positions.load(connection, waiting)
                missing = self._first_positions(topic_id, waiting - found.keys())
                self._positions.insert(connection, missing)
                found = self._positions.load(connection, waiting)
            for position in found.values():
                self._activate(position, topic_id)
        except Retry as retry:
            log.warning("positions_not_loaded", why=str(retry))
            self._postpone(str(retry))
        except KafkaException as error:
            log.warning("partition_not_positioned", why=error.args[0].str())
            self._postpone(error.args[0].str())
        else:
            self._recovered()

    def _first_positions(self, topic_id: str, partitions: Iterable[int]) -> list[Position]:
        """Start where Kafka's committed offset is, else at the beginning of the log."""
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        if not asked:
            return []
        committed = self._consumer.committed(asked, timeout=REQUEST_SECONDS)
        return [
            Position(
                entry.partition,
                topic_id,
                entry.offset if entry.offset >= 0 else self._log_range(entry.partition)[0],
            )
            for entry in committed
        ]

    def _activate(self, position: Position, topic_id: str) -> None:
        partition = position.partition
        low, high = self._log_range(partition)
        if position.topic_id != topic_id:
            self._stop_partition(
                partition,
                "the topic was deleted and made again: once nothing of the old one is wanted, "
                "delete its rows of consumer_positions while no consumer runs",
            )
        elif not low <= position.next_offset <= high:
            self._stop_partition(
                partition,
                f"next is {position.next_offset}, the log holds {low} to {high}: restore the log, "
                "or accept the loss by setting next_offset in consumer_positions while no "
                "consumer runs",
            )
        else:
            self._seek(partition, position.next_offset)
            self._consumer.resume([TopicPartition(self._topic, partition)])
            self._active[partition] = position
            log.info("partition_active", partition=partition, position=position.next_offset)

    def _log_range(self, partition: int) -> tuple[int, int]:
        asked = TopicPartition(self._topic, partition)
        found = self._consumer.get_watermark_offsets(asked, timeout=REQUEST_SECONDS)
        if found is None:
            raise Retry(Cause.AWAY, f"Kafka did not tell the range of partition {partition}")
        return found

    def _seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(self._topic, partition, offset))

    def _stop_partition(self, partition: int, why: str) -> None:
        log.error("partition_stopped", partition=partition, why=why)
        self._pause([partition])
        self._active.pop(partition, None)
        self._stopped[partition] = why
        self._count_partitions()

    def _pause(self, partitions: Iterable[int]) -> None:
        self._consumer.pause([TopicPartition(self._topic, p) for p in partitions])

    # --- rebalances; the callbacks run inside consume() and close(), so between two batches

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Only assign, paused: a failing database in here would leave partitions silent."""
        self._reach("in_assign")
        numbers = [entry.partition for entry in partitions]
        consumer.incremental_assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in numbers]
        )
        self._pause(numbers)
        self._assigned.update(numbers)
        self._not_before = 0.0
        self._count_partitions()
        log.info("partitions_assigned", partitions=sorted(numbers))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._reach("in_revoke")
        self._commit(asynchronous=False)
        self._release(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Commit nothing: the partitions may be somebody else's already."""
        self._release(consumer, partitions)

    def _release(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = {entry.partition for entry in partitions}
        consumer.incremental_unassign(partitions)
        self._assigned -= numbers
        for partition in numbers:
            for table in (
                self._active,
                self._known,
                self._stopped,
                self._gaps,
                self._committed,
            ):
                table.pop(partition, None)
            self._lag.forget(partition)
        self._count_partitions()
        log.info("partitions_released", partitions=sorted(numbers))

    def _count_partitions(self) -> None:
        self._metrics.partitions.set(len(self._assigned))
        self._metrics.stopped_partitions.set(len(self._stopped))

    # --- between batches

    def _keep_house(self) -> None:
        now = time.monotonic()
        if now - self._last_commit < COMMIT_EVERY_SECONDS:
            return
        self._last_commit = now
        self._commit(asynchronous=True)
        self._observe_lag()
        try:
            self._housekeeping()
        except Retry as retry:
            log.warning("housekeeping_postponed", why=str(retry))

    def _observe_lag(self) -> None:
        self._known |= self._active
        paused = self._assigned - self._active.keys()
        # The client knows the end of a log only while it fetches from it.
        ends = self._cluster.log_ends(paused) if paused else {}
        for partition, position in self._known.items():
            asked = TopicPartition(self._topic, partition)
            end = ends.get(partition)
            if end is None:
                _, end = self._consumer.get_watermark_offsets(asked, cached=True)
            self._lag.observe(partition, position.next_offset, end, self._committed)

    def _commit(self, *, asynchronous: bool) -> None:
        """Tell Kafka our positions: a hint for tools, and for a group without positions."""
        due = [
            TopicPartition(self._topic, partition, position.next_offset)
            for partition, position in self._active.items()
            if self._committed.get(partition) != position.next_offset
        ]
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
            if entry.error is None and entry.partition in self._assigned:
                self._committed[entry.partition] = entry.offset
