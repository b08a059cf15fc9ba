"""A log that lacks records: for good reasons it is passed over, for bad ones it stops us."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2 as httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from ops.simulator.life import Event
from support.feed import Feed, Stream
from support.forked import Fleet
from support.invariants import behind, catch_up, hold_invariants, log_ends, positions
from support.offsets import admin, change, start_again_from_zero
from support.polling import eventually
from support.proving import Proof, examples

EVENTS = examples(4_000, 300)


def busiest(fleet: Fleet) -> int:
    """Return the partition with most records."""
    ends = log_ends(fleet)
    return max(ends, key=lambda partition: ends[partition][1])


@contextmanager
def stopped_at(fleet: Fleet, partition: int, low: int, high: int) -> Iterator[None]:
    """See a consumer stop at this partition, say so, and leave the position where it is."""
    before = positions(fleet)
    fleet.spawn("consumer-1")
    eventually(lambda: "stopped_partitions 1.0" in metrics(fleet), 60, "the stop")
    status, document = fleet.readiness("consumer-1")
    told = str(document)
    assert status == 503
    assert f"partition {partition}" in told
    assert str(low) in told
    assert str(high) in told
    yield
    assert positions(fleet)[partition] == before[partition]
    fleet.forked("consumer-1").stop()


def metrics(fleet: Fleet) -> str:
    """Return the consumer's metrics, or nothing while it does not answer yet."""
    try:
        return fleet.metrics("consumer-1")
    except httpx.HTTPError:
        return ""


def others_go_on(fleet: Fleet, feed: Feed, stream: Stream, partition: int) -> None:
    """See everything but this partition reach the end of the log."""
    feed.publish(stream.take(100))
    eventually(
        lambda: all(
            positions(fleet).get(p, low) == high
            for p, (low, high) in log_ends(fleet).items()
            if p != partition
        ),
        60,
        "the other partitions",
    )


@pytest.mark.parametrize("how", ["retention", "truncation"])
def test_15_a_log_that_lost_records_stops_the_partition(
    fleet: Fleet, proof: Proof, how: str
) -> None:
    """What is gone from the log is never jumped over in silence: one partition waits, with why."""
    feed, stream = Feed(fleet), Stream(f"gap {how}")
    fleet.spawn("consumer-1")
    first = list(stream.take(EVENTS))
    feed.publish(first)
    catch_up(fleet, 60)
    fleet.forked("consumer-1").stop()
    partition = busiest(fleet)
    position = positions(fleet)[partition]
    if how == "retention":
        # What is deleted was applied before, so that nothing is missed once somebody accepts it.
        feed.publish(first)
        topic = fleet.variables["HOOKLINE_KAFKA_TOPIC"]
        low = position + 2
        gone = TopicPartition(topic, partition, low)
        client = admin(fleet)
        next(iter(client.delete_records([gone]).values())).result()
        told = (position, low)
        mended = low
    else:
        beyond = position + 1_000
        change(
            fleet,
            f"UPDATE consumer_positions SET next_offset = {beyond} WHERE partition = {partition}",  # noqa: S608
        )
        told = (position, beyond)
        mended = position
    with stopped_at(fleet, partition, *told):
        others_go_on(fleet, feed, stream, partition)
    feed.publish(stream.rest())
    change(
        fleet,
        f"UPDATE consumer_positions SET next_offset = {mended} WHERE partition = {partition}",  # noqa: S608
    )
    fleet.spawn("consumer-1")
    hold_invariants(fleet, stream.known)
    proof.count(gaps=1, events=stream.taken)


def test_16_transaction_markers_are_passed_over(fleet: Fleet, proof: Proof) -> None:
    """Markers and aborted records take offsets and are no events: the lag reaches 0."""
    stream, aborted = Stream("committed"), Stream("aborted")
    feed = Feed(fleet, **{"transactional.id": fleet.variables["HOOKLINE_KAFKA_TOPIC"]})
    fleet.spawn("consumer-1")
    feed.producer.init_transactions(60)
    for number in range(EVENTS // 50):
        feed.producer.begin_transaction()
        if number % 3 == 2:
            feed.publish(aborted.take(20))
            feed.producer.abort_transaction(60)
        else:
            feed.publish(stream.take(50))
            feed.producer.commit_transaction(60)
    feed.producer.begin_transaction()
    feed.publish(stream.rest())
    feed.producer.commit_transaction(60)
    hold_invariants(fleet, stream.known)
    assert fleet.readiness("consumer-1")[0] == 200
    proof.count(transactions=EVENTS // 50, events=stream.taken, aborted_events=aborted.taken)


def test_16_a_compacted_log_is_passed_over(fleet: Fleet, proof: Proof) -> None:
    """Of a log with holes everything is read that is left, and the lag reaches 0."""
    feed, stream = Feed(fleet), Stream("compacted")
    fleet.spawn("consumer-1")
    applied = [*stream.take(EVENTS), *stream.rest()]
    feed.publish(applied)
    catch_up(fleet, 60)
    fleet.forked("consumer-1").stop()
    compact(fleet, feed, applied[:100])
    start_again_from_zero(fleet)
    more = Stream("after the holes")
    feed.publish(more.take(100))
    feed.publish(more.rest())
    fleet.spawn("consumer-1")
    hold_invariants(fleet, [*stream.known, *more.known])
    assert behind(fleet) == 0
    assert fleet.readiness("consumer-1")[0] == 200
    proof.count(events=stream.taken + more.taken)


def compact(fleet: Fleet, feed: Feed, again: list[Event]) -> None:
    """Have Kafka keep the last record of each customer only, and wait until it has."""
    wanted = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.001",
        "segment.ms": "100",
    }
    configure(fleet, wanted)
    whole = sum(high for _, high in log_ends(fleet).values())
    time.sleep(0.2)
    # A record after the segment's time closes it; what is closed is compacted.
    feed.publish(again)
    eventually(lambda: records_left(fleet) < whole, 60, "the compaction")
    configure(fleet, {"cleanup.policy": "delete"})


def configure(fleet: Fleet, wanted: dict[str, str]) -> None:
    """Change the topic's configuration."""
    topic = fleet.variables["HOOKLINE_KAFKA_TOPIC"]
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in wanted.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    client = admin(fleet)
    client.incremental_alter_configs([resource])[resource].result()


def records_left(fleet: Fleet) -> int:
    """Return how many records the log holds."""
    client = Consumer(
        {
            "bootstrap.servers": fleet.variables["HOOKLINE_KAFKA_BOOTSTRAP"],
            "group.id": "audit",
            "enable.partition.eof": True,
        }
    )
    topic, found, open_ = fleet.variables["HOOKLINE_KAFKA_TOPIC"], 0, len(log_ends(fleet))
    client.assign([TopicPartition(topic, partition, 0) for partition in range(open_)])
    while open_:
        for message in client.consume(500, 1.0):
            open_ -= message.error() is not None
            found += message.error() is None
    client.close()
    return found
