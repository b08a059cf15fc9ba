"""Three brokers with a proxy before each, and what a test asks of them and does to them."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._group import ConsumerGroupDescription
from confluent_kafka.admin._metadata import PartitionMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from ops.embedded.kafka import KafkaBroker
from ops.embedded.ports import HOST
from ops.embedded.stack import KafkaCluster
from schemas.topics import PARTITIONS, REPLICATION, topic_config
from support.polling import eventually
from support.ports import steady_port
from support.proxy import Proxy

SESSION_SECONDS = 3
"""How long the controller misses a broker before its partitions get other leaders."""

BROKER = {
    "broker.session.timeout.ms": str(SESSION_SECONDS * 1000),
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "3000",
}
REQUEST_SECONDS = 10.0
START_SECONDS = 150.0
"""After a kill a broker reads its logs again, beside the load of the test."""

ALL = range(REPLICATION)


class Cluster:
    """Brokers by their places 0, 1 and 2; `proxied` leads clients through the proxies.

    Clients that come by `direct` keep away from the proxies, as the brokers among themselves do.
    """

    def __init__(self, kafka: KafkaCluster, proxies: list[Proxy]) -> None:
        self.proxies = proxies
        self.brokers: list[KafkaBroker] = kafka.brokers
        self.direct = kafka.bootstrap
        self.proxied = ",".join(f"{HOST}:{proxy.port}" for proxy in proxies)
        self._admin = self._connect()

    def make_topic(self, name: str, **config: str) -> None:
        """Make a topic as `hookline migrate` does on three brokers; `config` over its own."""
        own = topic_config(REPLICATION) | {key.replace("_", "."): v for key, v in config.items()}
        new = NewTopic(name, PARTITIONS, REPLICATION, config=own)
        self._admin.create_topics([new])[name].result()
        self.wait_in_sync(name)

    def drop_topic(self, name: str) -> None:
        """Delete a topic: a broker that starts looks through all there are."""
        self._admin.delete_topics([name])[name].result()

    def set_least_in_sync(self, topic: str, count: int) -> None:
        """Let the topic take a record only where so many replicas are in sync."""
        entry = ConfigEntry(
            "min.insync.replicas", str(count), incremental_operation=AlterConfigOpType.SET
        )
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for answer in self._admin.incremental_alter_configs([resource]).values():
            answer.result()

    def leader(self, topic: str) -> int:
        """Return the broker that leads most partitions."""
        leads = Counter(partition.leader for partition in self._partitions(topic))
        return leads.most_common(1)[0][0] - 1

    def coordinator(self, group: str) -> int:
        """Return the broker that coordinates a group."""
        return int(self._describe(group).coordinator.id) - 1

    def members(self, group: str) -> int:
        """Return how many members a group has."""
        return len(self._describe(group).members)

    def start(self, *places: int) -> None:
        """Start brokers that have ended; waits until each answers."""
        for place in places:
            self.brokers[place].start()

    def kill(self, *places: int) -> None:
        """End brokers as a power cut does."""
        for place in places:
            self.brokers[place].kill()

    def heal(self, topic: str) -> None:
        """Start what has ended, let all bytes pass, wait until every replica is in sync."""
        for proxy in self.proxies:
            proxy.heal()
        self.start(*(place for place in ALL if not self.brokers[place].is_alive()))
        self.wait_in_sync(topic)

    def wait_in_sync(self, topic: str) -> None:
        """Wait until every partition has a leader and all replicas."""
        eventually(lambda: self._is_in_sync(topic), 60, "all replicas being in sync")

    def _describe(self, group: str) -> ConsumerGroupDescription:
        # A client that is asked again after the coordinator it knew has died may end the process:
        # https://github.com/confluentinc/librdkafka/pull/5397.
        admin = self._connect()
        answer = admin.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)
        found: ConsumerGroupDescription = answer[group].result()
        return found

    def _connect(self) -> AdminClient:
        # Of brokers that are killed it would tell, line after line.
        quiet: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.direct,
            "log_level": 0,
        }
        return AdminClient(quiet, logger=logging.getLogger("kafka"))

    def _is_in_sync(self, topic: str) -> bool:
        try:
            partitions = self._partitions(topic)
        except KafkaException:
            return False
        return bool(partitions) and all(
            len(partition.isrs) == REPLICATION and partition.leader > 0 for partition in partitions
        )

    def _partitions(self, topic: str) -> list[PartitionMetadata]:
        found = self._admin.list_topics(topic, timeout=REQUEST_SECONDS)
        return list(found.topics[topic].partitions.values())


@contextmanager
def three_brokers(folder: Path, properties: dict[str, str]) -> Iterator[Cluster]:
    """Run three brokers while the context is open."""
    ports = [steady_port() for _ in range(2 * REPLICATION)]
    kafka = KafkaCluster(folder, ports=ports, properties=BROKER | properties)
    with ExitStack() as stack:
        proxies = []
        for broker in kafka.brokers:
            behind = steady_port()
            proxies.append(stack.enter_context(Proxy(behind)))
            broker.listen("PROXIED", behind, proxies[-1].port)
            broker.start_seconds = START_SECONDS
        stack.callback(kafka.stop)
        kafka.start()
        yield Cluster(kafka, proxies)
