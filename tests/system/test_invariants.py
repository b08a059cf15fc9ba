"""The checks of what must hold: silent where nothing is wrong, and each break told by its id."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from redis import Redis
from sqlalchemy import text

from consumer.billing.entitlement import entitle
from ops.invariants.checker import IDS, check
from ops.invariants.processes import problems_of, take_sample
from ops.invariants.subject import Sent, Subject
from ops.simulator.history import History
from schemas.redis_keys import entitlement_key, lease_key, lock_key
from support.invariants import HELD, engine_of, hold_invariants, processes_of, subject_of
from support.load import histories, shuffled
from support.pipeline import Pipeline
from support.polling import eventually

SOON = {"rest_seconds": 1.0, "patience_seconds": 0.5}
STORED = ("webhook_events", "customers", "subscriptions", "billing_audit", "dead_letters",
          "cache_invalidations", "consumer_positions")  # fmt: skip
STRANGE = b"this is no event"


@dataclass
class Place:
    """A deployment to break: applied, at rest, its processes stopped, one record a dead letter."""

    pipeline: Pipeline
    known: list[History]
    redis: "Redis"

    @property
    def customer(self) -> str:
        """Somebody to break something of."""
        return self.known[0].truth.customer_id

    @property
    def event(self) -> str:
        """One of their events."""
        return self.known[0].events[0].id

    def change(self, statement: str, **values: object) -> None:
        """Change the database behind everybody's back."""
        with engine_of(self.pipeline).begin() as connection:
            assert connection.execute(text(statement), values).rowcount > 0, statement

    def commit(self, ahead: int) -> None:
        """Move the group's commit of partition 0 in Kafka, without a consumer."""
        variables = self.pipeline.variables
        admin = AdminClient({"bootstrap.servers": variables["HOOKLINE_KAFKA_BOOTSTRAP"]})
        group, topic = variables["HOOKLINE_KAFKA_GROUP"], variables["HOOKLINE_KAFKA_TOPIC"]
        (at,) = self.pipeline.query(
            "SELECT next_offset FROM consumer_positions WHERE partition = 0"
        )
        place = TopicPartition(topic, 0, at[0] + ahead)
        admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])])[
            group
        ].result()

    def produce(self, body: bytes) -> None:
        """Put a record into the topic past ingest."""
        producer = Producer(
            {"bootstrap.servers": self.pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]}
        )
        producer.produce(self.pipeline.variables["HOOKLINE_KAFKA_TOPIC"], body, key=b"x")
        assert producer.flush(10) == 0

    def cache(self, subject: Subject, generation: str | None = None, **wrong: object) -> None:
        """Put the customer's answer of now into the cache, wrong in some field."""
        rows = self.pipeline.query(
            "SELECT subscription_id, status, tier, current_period_end, grace_until "  # noqa: S608 - our own names
            f"FROM subscriptions WHERE customer_id = '{self.customer}'"
        )
        fields = ("subscription_id", "status", "tier", "current_period_end", "grace_until")
        owned = [_Owned(**dict(zip(fields, row, strict=True))) for row in rows]
        answer = entitle(self.customer, owned, datetime.now(UTC), subject.plans, version=1)
        document = replace(answer, **wrong).to_document()  # type: ignore[arg-type]
        generation = generation or str(self.redis.info("server")["run_id"])
        self.redis.set(entitlement_key(generation, self.customer), json.dumps(document))


@dataclass
class _Owned:
    subscription_id: str
    status: str
    tier: str
    current_period_end: Any
    grace_until: Any


Break = Callable[[Place, Subject], Mapping[str, Any] | None]


def by_sql(statement: str) -> Break:
    """Return a break that one statement makes; `:customer` is somebody, `:event` theirs."""

    def change(place: Place, _: Subject) -> None:
        values = {"customer": place.customer, "event": place.event}
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        place.change(statement, **used)

    return change


def with_lock(place: Place, _: Subject) -> None:
    """Leave a lock behind."""
    place.redis.set(lock_key(place.customer), "somebody")


def with_cache(place: Place, subject: Subject) -> None:
    """Leave a wrong answer in the cache."""
    place.cache(subject, tier="gold")


def with_other_truth(_: Place, subject: Subject) -> dict[str, Any]:
    """Say that something else is true."""
    assert subject.truths is not None
    truth, *others = subject.truths
    other = replace(truth.subscriptions[0], cancel_at=5)
    return {"truths": [replace(truth, subscriptions=(other, *truth.subscriptions[1:])), *others]}


def with_more_accepted(_: Place, subject: Subject) -> dict[str, Any]:
    """Say that one more was answered 200."""
    accepted = subject.accepted or {}
    return {"accepted": {**accepted, "evt_lost": next(iter(accepted.values()))}}


BREAKS: dict[str, tuple[str, Break, str]] = {
    "an accepted event without a row": ("I1", with_more_accepted, "evt_lost was answered 200"),
    "a row lost": (
        "I1",
        by_sql("DELETE FROM webhook_events WHERE event_id = :event"),
        "is neither recorded nor a dead letter",
    ),
    "a dead letter lost": ("I1", by_sql("DELETE FROM dead_letters"), "is no event, is neither"),
    "a failed event without its letter": (
        "I1",
        by_sql("UPDATE webhook_events SET outcome = 'failed' WHERE event_id = :event"),
        "which failed, is neither",
    ),
    "an audit entry twice": (
        "I2",
        by_sql(
            "INSERT INTO billing_audit (event_id, customer_id, subscription_id, action, "
            "event_created_at) SELECT event_id, customer_id, subscription_id, action, now() "
            "FROM billing_audit WHERE action NOT IN ('subscription_started', 'subscription_ended') "
            "LIMIT 1"
        ),
        "had its effect 2 times",
    ),
    "an event in two months": (
        "I2",
        by_sql(
            "INSERT INTO webhook_events SELECT event_id, type, customer_id, "
            "created_at + interval '40 days', received_at, processed_at, livemode, api_version, "
            "outcome, reason, error, topic, partition, kafka_offset, payload "
            "FROM webhook_events WHERE event_id = :event"
        ),
        "stands recorded 2 times",
    ),
    "a row edited": (
        "I3",
        by_sql("UPDATE subscriptions SET latest_invoice = 'in_x' WHERE customer_id = :customer"),
        "latest_invoice: in_x -> ",
    ),
    "facts edited": (
        "I3",
        by_sql("UPDATE subscriptions SET facts = '[]' WHERE customer_id = :customer"),
        "facts: ",
    ),
    "another outcome": ("I4", with_other_truth, "cancel_at is "),
    "a position past the log": (
        "I5",
        by_sql("UPDATE consumer_positions SET next_offset = 99999 WHERE partition = 0"),
        "the position is 99999, the log ends at ",
    ),
    "a commit past the position": (
        "I5",
        lambda place, _: place.commit(3),
        "Kafka's committed offset is ",
    ),
    "another topic of the same name": (
        "I5",
        by_sql("UPDATE consumer_positions SET topic_id = 'x' WHERE partition = 0"),
        "was deleted and made again",
    ),
    "an old invalidation row": (
        "I6",
        by_sql(
            "INSERT INTO cache_invalidations (customers, created_at) "
            "VALUES (ARRAY[:customer], now() - interval '2 seconds')"
        ),
        "is older than a second",
    ),
    "a lock": ("I6", with_lock, "the lock is held"),
    "a wrong answer in the cache": ("I7", with_cache, ": gold, "),
    "bytes of a dead letter changed": (
        "I10",
        by_sql("UPDATE dead_letters SET body = 'x'"),
        "its bytes are not those of the record",
    ),
    "bytes of a dead letter gone": (
        "I10",
        by_sql("UPDATE dead_letters SET body = NULL"),
        "its bytes are not those of the record",
    ),
    "an unheard-of reason": (
        "I10",
        by_sql("UPDATE dead_letters SET reason = 'mood'"),
        "mood is no reason",
    ),
    # The last: a record cannot be taken back.
    "a record that nobody applies": (
        "I6",
        lambda place, _: place.produce(STRANGE),
        "not at rest: applied up to ",
    ),
}


@contextmanager
def undone(place: Place) -> Iterator[None]:
    """Bring back the tables, Kafka's commit and Redis at the end."""
    try:
        yield
    finally:
        with engine_of(place.pipeline).begin() as connection:
            for table in STORED:
                connection.execute(text(f"TRUNCATE {table}"))
                connection.execute(
                    text(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE kept_{table}")
                )
        place.commit(0)
        place.redis.flushdb()


def found_by_id(subject: Subject) -> dict[str, list[str]]:
    """Return what each broken invariant found."""
    results = check(subject, HELD)
    return {r.invariant.id: [f.what for f in r.findings] for r in results if r.state != "holds"}


def test_each_break_is_told_by_its_id_and_by_no_other(pipeline: Pipeline) -> None:
    """After real traffic everything holds; what is broken by hand is found, and nothing else."""
    pipeline.start("ingest", "consumer-1", "gatekeeper")
    known = histories(8, "i")
    with Redis.from_url(pipeline.variables["HOOKLINE_REDIS_URL"]) as redis:
        place = Place(pipeline, known, redis)
        place.produce(STRANGE)
        assert set(pipeline.post_all(shuffled(known, copies=2))) == {200}
        hold_invariants(pipeline, known, expect_dead_letters=True)
        with pytest.raises(AssertionError, match="unsigned"):
            hold_invariants(pipeline, known)
        pipeline.stop()
        with engine_of(pipeline).begin() as connection:
            for table in STORED:
                connection.execute(text(f"CREATE TABLE kept_{table} AS TABLE {table}"))
        check_all_breaks(place)


def check_all_breaks(place: Place) -> None:
    """Break one thing after the other, and look each time."""
    accepted = {
        event.id: Sent(history.truth.customer_id, datetime.fromtimestamp(event.created, UTC))
        for history in place.known
        for event in history.events
    }
    truths = [history.truth for history in place.known]
    with subject_of(
        place.pipeline, accepted=accepted, truths=truths, records=None, **SOON
    ) as subject:
        assert found_by_id(subject) == {}
        for name, (id_, breaking, words) in BREAKS.items():
            with undone(place):
                changed = breaking(place, subject) or {}
                found = found_by_id(replace(subject, **changed))
            assert list(found) == [id_], (name, found)
            assert any(words in what for what in found[id_]), (name, found)


def test_what_no_reader_gets_from_the_cache_does_not_count(pipeline: Pipeline) -> None:
    """The right answer, a lease, another generation and an answer that is over are no findings."""
    pipeline.start("ingest", "consumer-1")
    known = histories(2, "c")
    pipeline.post_all(shuffled(known))
    hold_invariants(pipeline, known)
    with (
        Redis.from_url(pipeline.variables["HOOKLINE_REDIS_URL"]) as redis,
        subject_of(pipeline, **SOON) as subject,
    ):
        place = Place(pipeline, known, redis)
        generation = str(redis.info("server")["run_id"])
        redis.set(lease_key(generation, place.customer), "token")
        place.cache(subject, generation="another", tier="gold")
        place.cache(subject)
        (result,) = check(subject, ("I7",))
        assert result.state == "holds"
        assert result.looked_at == "1 cached answer, 1 answer of another generation"
        place.cache(subject, tier="gold", valid_until=datetime(2026, 1, 1, tzinfo=UTC))
        assert check(subject, ("I7",))[0].state == "holds"
        redis.set(entitlement_key(generation, place.customer), "{")
        (finding,) = check(subject, ("I7",))[0].findings
        assert finding == ("I7", place.customer, "the cached answer cannot be read")


def test_processes_are_bounded_and_say_what_is_wrong(pipeline: Pipeline) -> None:
    """A measure above the baseline and a process that does not answer are told by name."""
    pipeline.start("ingest", "consumer-1")
    with subject_of(pipeline, **SOON) as subject:
        baseline = take_sample(subject)
        assert {"ingest: memory", "consumer-1: threads", "consumer-1: open files"} <= set(baseline)
        eventually(lambda: "hookline-consumer: connections" in take_sample(subject))
        results = check(replace(subject, baseline=baseline), ("I8", "I9"))
        assert [result.state for result in results] == ["holds", "holds"]

        halved = replace(
            subject, baseline={"consumer-1: memory": baseline["consumer-1: memory"] / 2}
        )
        (finding,) = check(halved, ("I8",))[0].findings
        assert finding[:2] == ("I8", "consumer-1")

        url = processes_of(pipeline)["consumer-1"].url
        assert problems_of(url) == {}
        pipeline.members["consumer-1"].process.stop()
        assert problems_of(url) is None
        (finding,) = check(subject, ("I9",))[0].findings
        assert finding == ("I9", "consumer-1", f"does not answer at {url}")


def test_what_is_not_given_is_not_checked(pipeline: Pipeline) -> None:
    """A check without its inputs says so, and counts neither as held nor as broken."""
    with subject_of(pipeline, **SOON) as subject:
        bare = replace(subject, log=None, redis=None, processes={})
        results = check(bare)
    states = {result.invariant.id: result.state for result in results}
    assert states == dict.fromkeys(IDS, "not checked") | {"I2": "holds", "I3": "holds"}
    assert all(result.looked_at for result in results)
