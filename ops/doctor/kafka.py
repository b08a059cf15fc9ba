"""What the doctor asks the brokers, and how it judges the answers."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from ops.counting import count
from ops.doctor.line import Line, ok, one_of, unknown, wrong
from ops.invariants.event_log import AwayError
from schemas.access import Refusals
from schemas.settings import GroupSettings
from schemas.topics import (
    LEAST_RETENTION_MS,
    MAX_MESSAGE_BYTES,
    MIN_INSYNC,
    PARTITIONS,
    REPLICATION,
)

T = TypeVar("T")

REQUEST_SECONDS = 5.0
REBALANCE_SECONDS = 5.0
"""Members that join or leave have shared out the partitions by then."""

LOOK_SECONDS = 0.5
DAY_MS = 24 * 3600 * 1000
ALTER = "kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {entry}"


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic as the brokers describe it; counts are those of its worst partition."""

    name: str
    partitions: int
    replicas: int
    insync: int
    leaderless: tuple[int, ...]
    config: Mapping[str, str]
    """Empty where the brokers do not let us read it."""


class Kafka:
    """The brokers; every method blocks, and raises AwayError."""

    def __init__(self, settings: GroupSettings) -> None:
        self._refusals = Refusals()
        self._bootstrap = settings.kafka_bootstrap
        self._topic = settings.kafka_topic
        self._group = settings.kafka_group
        access: dict[str, Any] = {**settings.kafka_access(), "error_cb": self._refusals.note}
        self._admin = AdminClient(access | {"log_level": 0}, logger=logging.getLogger("kafka"))

    def brokers(self) -> list[int]:
        """Return the ids of the brokers."""
        future = self._ask(lambda: self._admin.describe_cluster(request_timeout=REQUEST_SECONDS))
        return [node.id for node in self._ask(future.result).nodes]

    def group_protocols(self, broker: int) -> list[str]:
        """Return the group protocols that a broker offers; none where it does not say."""
        config = self._config(ResourceType.BROKER, str(broker))
        return [name for name in config.get(_PROTOCOLS, "").split(",") if name]

    def topic(self) -> Topic | None:
        """Return the topic, or None where there is none of that name."""
        metadata = self._ask(lambda: self._admin.list_topics(self._topic, timeout=REQUEST_SECONDS))
        found = metadata.topics[self._topic]
        if found.error is not None or not found.partitions:
            return None
        partitions = found.partitions.values()
        return Topic(
            self._topic,
            len(partitions),
            min(len(partition.replicas) for partition in partitions),
            min(len(partition.isrs) for partition in partitions),
            tuple(p.id for p in partitions if p.leader < 0),
            self._config(ResourceType.TOPIC, self._topic),
        )

    def shares(self) -> list[int]:
        """Return how many partitions each member of the group has."""
        futures = self._admin.describe_consumer_groups(
            [self._group], request_timeout=REQUEST_SECONDS
        )
        group = self._ask(futures[self._group].result)
        return [
            sum(entry.topic == self._topic for entry in member.assignment.topic_partitions)
            for member in group.members
        ]

    def _config(self, kind: ResourceType, name: str) -> dict[str, str]:
        """Return a configuration, empty where we have no right to read it."""
        resource = ConfigResource(kind, name)
        answer = self._admin.describe_configs([resource], request_timeout=REQUEST_SECONDS)
        try:
            entries = answer[resource].result()
        except KafkaException as error:
            if error.args[0].name().endswith("AUTHORIZATION_FAILED"):
                return {}
            raise self._away(error) from error
        return {key: str(entry.value) for key, entry in entries.items()}

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except KafkaException as error:
            raise self._away(error) from error

    def _away(self, error: KafkaException) -> AwayError:
        self._admin.poll(0)
        if self._refusals.why:
            return AwayError(self._refusals.why)
        if error.args[0].code() in _SILENT:
            return AwayError(f"no broker answers at {self._bootstrap}")
        return AwayError(f"Kafka at {self._bootstrap}: {error.args[0].str()}")


_SILENT = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001 - public constants of the client
_PROTOCOLS = "group.coordinator.rebalance.protocols"


def judge_brokers(brokers: int, protocols: list[str], wanted: str, how: str) -> Line:
    """Say what the brokers are; `wanted` is the group protocol of the consumers."""
    fact = f"{count(brokers, 'broker')}, {how}"
    if not protocols:
        return ok("kafka", f"{fact}; they do not say which group protocols they speak")
    if wanted not in protocols:
        return wrong(
            "kafka",
            f"{fact}, and speak the group protocols {', '.join(protocols)}, not {wanted}",
            "brokers of 4.0 or newer, or HOOKLINE_KAFKA_GROUP_PROTOCOL=classic",
        )
    age = "4.0 or newer" if "consumer" in protocols else "before 4.0"
    return ok("kafka", f"{fact}; {age} by their group protocols {', '.join(protocols)}")


def judge_topic(topic: Topic, *, is_live: bool | None, single: bool) -> Iterator[Line]:
    """Hold the topic against what the design needs of it."""
    yield _judge_partitions(topic)
    yield _judge_replication(topic, is_live=is_live, single=single)
    if not topic.config:
        why = f"the brokers do not let us read the configuration of {topic.name}"
        yield unknown("retention", f"{why}: grant DescribeConfigs")
        return
    yield from _judge_retention(topic)
    yield from _judge_limits(topic)


def _judge_partitions(topic: Topic) -> Line:
    fact = f"{topic.name} has {count(topic.partitions, 'partition')}"
    if topic.leaderless:
        names = ", ".join(map(str, topic.leaderless))
        return wrong("topic", f"{fact}, and {names} without a leader", "start the brokers again")
    if topic.partitions < 2:  # noqa: PLR2004 - one is the case that this is about
        return wrong(
            "topic",
            f"{fact}: only one consumer can work",
            f"let the consumers reach the end, then switch to a new topic of {PARTITIONS} "
            "partitions: HOOKLINE_KAFKA_TOPIC=another and `hookline migrate`",
        )
    return ok("topic", f"{fact}, so that many consumers can work")


def _judge_replication(topic: Topic, *, is_live: bool | None, single: bool) -> Line:
    least = topic.config.get("min.insync.replicas", "")
    fact = f"replication {topic.replicas}, {topic.insync} in sync" + (
        f", min.insync.replicas {least}" if least else ""
    )
    if least.isdigit() and topic.insync < int(least):
        return wrong("replication", f"{fact}: Kafka takes no writes", "start the missing brokers")
    if topic.replicas >= REPLICATION and least == str(MIN_INSYNC):
        return ok("replication", f"{fact}: survives the loss of a broker")
    if is_live is None:
        return unknown("replication", f"{fact}; whether that is enough says HOOKLINE_LIVEMODE")
    if not is_live:
        return ok("replication", f"{fact}, enough for test mode")
    if single:
        return ok("replication", f"{fact}, accepted by HOOKLINE_ALLOW_SINGLE_BROKER=true")
    return wrong(
        "replication",
        f"{fact}; live mode needs {REPLICATION} and {MIN_INSYNC}, and ingest is not ready without",
        f"three brokers and a topic that `hookline migrate` makes there, or "
        f"{ALTER.format(topic=topic.name, entry=f'min.insync.replicas={MIN_INSYNC}')}; "
        "HOOKLINE_ALLOW_SINGLE_BROKER=true accepts that a power cut can lose events",
    )


def _judge_retention(topic: Topic) -> Iterator[Line]:
    kept, size = int(topic.config["retention.ms"]), int(topic.config["retention.bytes"])
    problems = []
    if 0 <= kept < LEAST_RETENTION_MS:
        what = (
            f"{topic.name} keeps records for {_days(kept)}, less than {_days(LEAST_RETENTION_MS)}"
        )
        problems.append((what, _alter(topic, f"retention.ms={14 * DAY_MS}")))
    if size >= 0:
        what = f"{topic.name} keeps no more than {size:,} bytes a partition, however young they are"
        problems.append((what, _alter(topic, "retention.bytes=-1")))
    if topic.config["cleanup.policy"] != "delete":
        what = (
            f"cleanup.policy is {topic.config['cleanup.policy']}, which drops a customer's events"
        )
        problems.append((what, _alter(topic, "cleanup.policy=delete")))
    fact = "for ever" if kept < 0 else f"for {_days(kept)}"
    yield from one_of("retention", problems, f"{topic.name} keeps records {fact}")


def _judge_limits(topic: Topic) -> Iterator[Line]:
    problems = []
    most = int(topic.config["max.message.bytes"])
    if most < MAX_MESSAGE_BYTES:
        what = (
            f"max.message.bytes is {most:,}, below the {MAX_MESSAGE_BYTES:,} that an event may need"
        )
        problems.append((what, _alter(topic, f"max.message.bytes={MAX_MESSAGE_BYTES}")))
    if topic.config["unclean.leader.election.enable"] != "false":
        what = "unclean.leader.election.enable is true: a fail-over may lose acknowledged events"
        problems.append((what, _alter(topic, "unclean.leader.election.enable=false")))
    yield from one_of("limits", problems, f"records up to {most:,} bytes, no unclean election")


def _alter(topic: Topic, entry: str) -> str:
    return ALTER.format(topic=topic.name, entry=entry)


def _days(milliseconds: int) -> str:
    return f"{milliseconds / DAY_MS:.3g} days"


def look_at_group(kafka: Kafka, group: str, partitions: int) -> Line:
    """Say who has the partitions, once members that come or go have shared them out."""
    deadline = time.monotonic() + REBALANCE_SECONDS
    shares = kafka.shares()
    while shares and sum(shares) < partitions and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        shares = kafka.shares()
    return judge_group(group, shares, partitions)


def judge_group(group: str, shares: list[int], partitions: int) -> Line:
    """Judge how many partitions each member has."""
    if not shares:
        return wrong(
            "group",
            f"no consumer of the group {group} is there, nothing is applied",
            "start `hookline consume`; where one runs, compare its HOOKLINE_KAFKA_GROUP",
        )
    fact = f"group {group}: {count(len(shares), 'consumer')}"
    if (owned := sum(shares)) < partitions:
        return wrong(
            "group",
            f"{fact}, and {count(partitions - owned, 'partition')} of {partitions} without one",
            "look at the consumers' logs and /readyz",
        )
    idle = shares.count(0)
    return ok("group", f"{fact}{f', {idle} of them idle' if idle else ''}, no partition without")
