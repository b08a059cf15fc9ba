"""A topic that is not the one whose positions are stored: stop, and say so."""

from confluent_kafka.admin import AdminClient

from schemas.topics import PARTITIONS
from support.forked import Fleet
from support.load import histories, shuffled
from support.pipeline import Pipeline, counted, hookline, owned, pids
from support.polling import eventually
from support.rest import check_at_rest
from support.topic import Topic, make_topic

CONSUMERS = ("consumer-1", "consumer-2")


def test_21b_topic_deleted_and_made_again(fleet: Fleet, log: Topic) -> None:
    """Each partition stops and says why; accepted, the new topic is read from its beginning."""
    fleet.start(*CONSUMERS)
    before = pids(fleet)
    known = histories(30, "21b")
    log.send(shuffled(known))
    check_at_rest(fleet, known)
    make_again(fleet.variables["HOOKLINE_KAFKA_BOOTSTRAP"], log.name)
    again = histories(30, "21b again")
    log.send(shuffled(again))
    eventually(
        lambda: (
            sum(owned(fleet, name) for name in CONSUMERS) == PARTITIONS
            and sum(stopped(fleet, name) for name in CONSUMERS) == PARTITIONS
        ),
        60,
        "stopping all partitions",
    )
    for name in CONSUMERS:
        status, document = fleet.readiness(name)
        assert status == 503
        assert "the topic was deleted and made again" in document["checks"]["kafka"]
    # Within moments of its making a record may come from the new topic under the old position;
    # the beginning, where an accepted gap goes on, makes it one that is known already.
    accepted = hookline(fleet, "positions", "accept-gap", "--all", "--yes")
    assert accepted.returncode == 0, accepted.stderr
    check_at_rest(fleet, [*known, *again])
    assert pids(fleet) == before


def stopped(pipeline: Pipeline, name: str) -> float:
    """Return how many partitions a consumer has stopped."""
    return counted(pipeline.metrics(name), "hookline_consumer_stopped_partitions")[""]


def make_again(bootstrap: str, name: str) -> None:
    """Delete a topic and make another one of that name."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([name])[name].result()
    eventually(lambda: name not in admin.list_topics(timeout=10).topics, what="the deletion")
    make_topic(admin, name)
