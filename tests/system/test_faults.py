"""What a killed process or server may not do: lose, double, stand still, or lie with a 200."""

import os

import httpx2 as httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from ops.embedded.stack import Stack
from support.load import Load, check_outcome, histories, shuffled
from support.pipeline import Pipeline, pids, recorded
from support.polling import eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded",
    reason="kills servers, so it starts its own",
)


CONSUMERS = ("consumer-1", "consumer-2")


def logged_event_ids(bootstrap: str) -> set[str]:
    """Return the ids of all events in the log."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "audit"})
    topic = consumer.list_topics("stripe.events", timeout=10).topics["stripe.events"]
    found: set[str] = set()
    for partition in topic.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition("stripe.events", partition))
        consumer.assign([TopicPartition("stripe.events", partition, low)])
        while low < high:
            for message in consumer.consume(500, 1.0):
                assert message.error() is None
                low = (message.offset() or 0) + 1
                found |= {v.decode() for n, v in message.headers() or [] if n == "ce_id"}  # type: ignore[str-unpack,union-attr]
    consumer.close()
    return found


def test_kafka_killed_under_load(deployment: Pipeline, stack: Stack) -> None:
    """No 200 without a record; 503 with Retry-After meanwhile; recovery without a restart."""
    deployment.start("ingest", *CONSUMERS)
    before = pids(deployment)
    known = histories(25, "b")
    events = shuffled(known)
    load_ = Load(deployment, events)
    eventually(lambda: recorded(deployment) > 50, what="the first batches")
    stack.kafka.kill()
    answer = deployment.post(events[0])
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"].isdigit()
    assert answer.elapsed.total_seconds() < 8
    eventually(lambda: deployment.readiness("ingest")[0] == httpx.codes.SERVICE_UNAVAILABLE)
    stack.kafka.start()
    answers = load_.wait()
    assert set(answers) <= {200, 503}
    accepted = {str(e["id"]) for e, a in zip(events, answers, strict=True) if a == httpx.codes.OK}
    assert accepted <= logged_event_ids(stack.kafka.bootstrap)

    # What was refused, Stripe sends again.
    refused = [e for e, a in zip(events, answers, strict=True) if a != httpx.codes.OK]
    assert refused
    eventually(lambda: deployment.post(events[0]).status_code == httpx.codes.OK, 30)
    assert set(deployment.post_all(refused)) == {200}
    eventually(lambda: recorded(deployment) == len(events), 60, "catching up")
    check_outcome(deployment, known)
    assert pids(deployment) == before


def test_a_consumer_leaves_although_kafka_is_dead(deployment: Pipeline, stack: Stack) -> None:
    """SIGTERM finds no broker to commit to: the position is enough, so it ends in order."""
    deployment.start("ingest", "consumer-1")
    known = histories(5, "dead")
    assert set(deployment.post_all(shuffled(known))) == {200}
    eventually(lambda: recorded(deployment) > 0, what="the first batches")
    stack.kafka.kill()
    process = deployment.members["consumer-1"].process
    process.stop()
    log = process.log.read_text()
    assert '"event": "stopped"' in log
    assert "not_stopped_in_time" not in log
