"""What must hold after every row of the matrix, in one place."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.repair import Repair
from ops.simulator.history import History
from schemas.plans import load_plans
from support.billing import GRACE
from support.load import check_outcome, engine_of
from support.pipeline import Pipeline
from support.polling import eventually

_DOUBLED = """
SELECT event_id, subscription_id, action, count(*) FROM billing_audit
GROUP BY event_id, subscription_id, action HAVING count(*) > 1
"""


def log_ends(pipeline: Pipeline) -> dict[int, tuple[int, int]]:
    """Return first and next offset of each partition of the topic."""
    topic = pipeline.variables["HOOKLINE_KAFKA_TOPIC"]
    bootstrap = pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "audit"})
    try:
        partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
        return {
            p: client.get_watermark_offsets(TopicPartition(topic, p), timeout=10)
            for p in partitions
        }
    finally:
        client.close()


def committed(pipeline: Pipeline) -> dict[int, int]:
    """Return what the group has committed to Kafka; a partition without any is absent."""
    admin = AdminClient({"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]})
    group = pipeline.variables["HOOKLINE_KAFKA_GROUP"]
    asked = [ConsumerGroupTopicPartitions(group)]
    found = admin.list_consumer_group_offsets(asked, request_timeout=10)[group].result()
    return {p.partition: p.offset for p in found.topic_partitions if p.offset >= 0}


def positions(pipeline: Pipeline) -> dict[int, int]:
    """Return how far each partition is applied."""
    return dict(pipeline.query("SELECT partition, next_offset FROM consumer_positions"))


def behind(pipeline: Pipeline) -> int:
    """Return how many offsets are not applied yet."""
    stored = positions(pipeline)
    return sum(high - stored.get(p, low) for p, (low, high) in log_ends(pipeline).items())


def catch_up(pipeline: Pipeline, seconds: float) -> None:
    """Wait until everything in the log is applied."""
    eventually(lambda: behind(pipeline) == 0, seconds, "catching up")


def hold_invariants(
    pipeline: Pipeline, known: list[History], *, seconds: float = 120, letters: int = 0
) -> None:
    """Demand that everything of these customers is applied once, rightly, and nothing is left.

    A consumer must run. Waits for the end of the log for at most `seconds`.
    """
    catch_up(pipeline, seconds)
    _hold_events(pipeline, known)
    assert pipeline.query("SELECT count(*) FROM dead_letters") == [(letters,)]
    assert pipeline.query(_DOUBLED) == []
    eventually(
        lambda: pipeline.query("SELECT count(*) FROM plan_tiers") != [(0,)],
        what="writing the tiers of the view",
    )
    check_outcome(pipeline, known)
    _hold_facts(pipeline)
    _hold_positions(pipeline)
    eventually(
        lambda: pipeline.query("SELECT count(*) FROM cache_invalidations") == [(0,)],
        what="sweeping the cache",
    )


def _hold_events(pipeline: Pipeline, known: list[History]) -> None:
    """Demand that each event stands recorded once."""
    rows = Counter(
        event_id for (event_id,) in pipeline.query("SELECT event_id FROM webhook_events")
    )
    sent = {event.id for history in known for event in history.events}
    assert sent - rows.keys() == set(), "lost"
    assert rows.keys() - sent == set(), "made up"
    assert [event_id for event_id, count in rows.items() if count > 1] == [], "doubled"


def _hold_facts(pipeline: Pipeline) -> None:
    """Demand that folding what is recorded once more changes nothing."""
    engine = engine_of(pipeline)
    plans = load_plans(Path(pipeline.variables["HOOKLINE_PLANS_FILE"]))
    grace = timedelta(hours=int(pipeline.variables.get("HOOKLINE_GRACE_HOURS", 0))) or GRACE
    found = [one for one in Repair(engine, plans, grace).examine_all() if not one.is_sound]
    engine.dispose()
    assert found == []


def _hold_positions(pipeline: Pipeline) -> None:
    """Demand that Kafka was told no more than is applied, and that within the log."""
    told, ends = committed(pipeline), log_ends(pipeline)
    for partition, position in positions(pipeline).items():
        low, high = ends[partition]
        assert low <= position <= high, partition
        assert told.get(partition, 0) <= position, partition
