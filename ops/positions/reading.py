"""The partitions as they stand: what PostgreSQL and the brokers say of them; blocks on both."""

from dataclasses import dataclass

import stamina
from sqlalchemy import Engine

from consumer.errors import Retry
from consumer.kafka import Cluster
from consumer.storage.history import snapshot
from consumer.storage.positions import load_all
from ops.positions.standing import Standing
from schemas.settings import GroupSettings

ATTEMPTS = 5
ATTEMPT_SECONDS = 5.0
"""A topic that was just made has no leader yet; a broker that is away is not waited for longer."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """What Kafka says of a topic and of the group's offsets on it."""

    topic_id: str
    logs: dict[int, tuple[int, int]]
    committed: dict[int, int]


def read_standings(engine: Engine, settings: GroupSettings) -> list[Standing]:
    """Return every partition of the topic, and every one that has a position.

    Positions are read before the logs' ends: one that moves meanwhile must not look past the end.
    Raises Retry or sqlalchemy's DBAPIError.
    """
    with snapshot(engine) as connection:
        positions = load_all(connection, settings.kafka_group, settings.kafka_topic)
    found = _patiently(_ask, Cluster(settings))
    return [
        Standing(p, found.topic_id, found.logs.get(p), positions.get(p), found.committed.get(p))
        for p in sorted({*found.logs, *positions})
    ]


def _ask(cluster: Cluster) -> Brokers:
    topic_id = cluster.topic_id()
    partitions = cluster.partitions()
    return Brokers(topic_id, cluster.log_ranges(partitions), cluster.committed(partitions))


_patiently = stamina.RetryingCaller(attempts=ATTEMPTS, timeout=ATTEMPT_SECONDS).on(Retry)
