"""How consumers share partitions: both protocols, static members, a name that two bear."""

from contextlib import suppress

import pytest

from ops.embedded.errors import EmbeddedError
from support.load import check_outcome, histories, shuffled
from support.pipeline import Pipeline, counted, recorded
from support.polling import eventually

CONSUMERS = ("consumer-1", "consumer-2")


def start(pipeline: Pipeline, name: str, **variables: str) -> None:
    """Start one consumer with settings of its own."""
    Pipeline.start(own := Pipeline(pipeline.folder, {**pipeline.variables, **variables}), name)
    pipeline.members[name] = own.members[name]


def owned(pipeline: Pipeline, name: str) -> float:
    """Return how many partitions a consumer owns."""
    return counted(pipeline.metrics(name), "hookline_consumer_partitions")[""]


def log_of(pipeline: Pipeline, name: str) -> str:
    """Return a process's log so far."""
    return pipeline.members[name].process.log.read_text()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_static_member_comes_back_without_a_rebalance(pipeline: Pipeline, protocol: str) -> None:
    """Stopped and started under its name it finds its partitions; nobody else notices."""
    settings = {
        name: {
            "HOOKLINE_KAFKA_GROUP_PROTOCOL": protocol,
            "HOOKLINE_KAFKA_GROUP_INSTANCE_ID": name,
        }
        for name in CONSUMERS
    }
    for name in CONSUMERS:
        start(pipeline, name, **settings[name])
    eventually(lambda: all(owned(pipeline, name) == 6 for name in CONSUMERS), 90, "sharing")
    pipeline.start("ingest")
    known = histories(10, "static")
    events = shuffled(known)
    half = len(events) // 2
    assert set(pipeline.post_all(events[:half])) == {200}
    before = log_of(pipeline, "consumer-2")
    pipeline.members["consumer-1"].process.stop()
    assert '"event": "stopped"' in log_of(pipeline, "consumer-1")
    assert set(pipeline.post_all(events[half:])) == {200}
    start(pipeline, "consumer-1", **settings["consumer-1"])
    eventually(lambda: recorded(pipeline) == len(events), 60, "the rest")
    check_outcome(pipeline, known)
    since = log_of(pipeline, "consumer-2")[len(before) :]
    assert "partitions_released" not in since
    assert "partitions_assigned" not in since
    assert owned(pipeline, "consumer-1") == 6


def test_the_classic_protocol_shares_and_hands_over(pipeline: Pipeline) -> None:
    """One consumer, then two, then one again: all is applied, nobody loses what it keeps."""
    classic = {"HOOKLINE_KAFKA_GROUP_PROTOCOL": "classic"}
    pipeline.start("ingest")
    start(pipeline, "consumer-1", **classic)
    eventually(lambda: owned(pipeline, "consumer-1") == 12, 90)
    start(pipeline, "consumer-2", **classic)
    known = histories(10, "classic")
    assert set(pipeline.post_all(shuffled(known))) == {200}
    eventually(lambda: all(owned(pipeline, name) == 6 for name in CONSUMERS), 90, "sharing")
    # Cooperative: what a member keeps is not taken from it.
    assert log_of(pipeline, "consumer-1").count("partitions_released") == 1
    pipeline.members["consumer-1"].process.stop()
    eventually(lambda: owned(pipeline, "consumer-2") == 12, 90, "the handover")
    more = histories(5, "classic-more")
    assert set(pipeline.post_all(shuffled(more))) == {200}
    events = sum(len(history.events) for history in [*known, *more])
    eventually(lambda: recorded(pipeline) == events, 60)
    check_outcome(pipeline, [*known, *more])


def test_a_name_that_two_bear_ends_the_second(pipeline: Pipeline) -> None:
    """Kafka refuses it; the process leaves with a sentence instead of standing by in silence."""
    same = {"HOOKLINE_KAFKA_GROUP_INSTANCE_ID": "same"}
    start(pipeline, "consumer-1", **same)
    eventually(lambda: owned(pipeline, "consumer-1") == 12, 60)
    with suppress(EmbeddedError):  # it may end before it is asked whether it is ready
        start(pipeline, "consumer-2", **same)
    log = pipeline.folder / "logs" / "consumer-2.log"
    eventually(lambda: '"event": "halted"' in log.read_text(), 60, "the halt")
    assert "instance ID is still used" in log.read_text()
    if second := pipeline.members.get("consumer-2"):
        eventually(lambda: not second.process.is_alive(), what="its end")
    assert owned(pipeline, "consumer-1") == 12
