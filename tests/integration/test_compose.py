"""docker-compose.yml without an engine: the servers it configures, started from packages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from ops.embedded import kafka, valkey
from ops.embedded.jars import cache_folder, provide_jars, read_lock
from ops.embedded.ports import HOST, free_ports, is_listening
from ops.embedded.processes import Process
from ops.servers import serve_admin
from schemas.readiness import Readiness
from support.compose import make_secrets, mounts, our_services, read_compose
from support.polling import eventually

COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """Provide a process that ends with the test."""
    found = Process("server", tmp_path)
    yield found
    found.stop()


def test_kafka_starts_from_the_variables_of_its_service(tmp_path: Path, process: Process) -> None:
    """The image's own tool makes a configuration of them, and the broker that it names runs."""
    broker, controller = free_ports(2)
    environment = {
        name: value.replace("9092", str(broker)).replace("9093", str(controller))
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    folders = {name: tmp_path / name for name in ("default", "mounted", "final")}
    for folder in folders.values():
        folder.mkdir()
    jars = provide_jars(cache_folder() / "jars", read_lock())
    java = [kafka.find_java(), environment["KAFKA_HEAP_OPTS"], "-cp", ":".join(map(str, jars))]
    setup = [*java, "kafka.docker.KafkaDockerWrapper", "setup"]
    setup += [part for n, path in folders.items() for part in (f"--{n}-configs-dir", str(path))]
    data = tmp_path / "data"
    subprocess.run(  # noqa: S603 - Kafka's own tool
        setup, env=environment | {"KAFKA_LOG_DIRS": str(data)}, check=True, capture_output=True
    )
    assert environment["CLUSTER_ID"] in (data / "meta.properties").read_text()
    process.start([*java, "kafka.Kafka", str(folders["final"] / "server.properties")])
    eventually(lambda: is_listening(broker), what="Kafka's port")
    admin = AdminClient({"bootstrap.servers": f"{HOST}:{broker}"})
    brokers = admin.list_topics(timeout=30).brokers.values()
    assert [f"{found.host}:{found.port}" for found in brokers] == [f"kafka:{broker}"]


def test_valkey_starts_with_its_command_and_wants_the_password(
    tmp_path: Path, process: Process
) -> None:
    """The secret is a configuration file that the server reads; without it nobody gets in."""
    secrets = make_secrets(tmp_path)
    service = SERVICES["valkey"]
    files = mounts(COMPOSE, service, secrets) | {"/data": tmp_path}
    program, *arguments = [str(files.get(word, word)) for word in service["command"]]
    assert program == "valkey-server"
    (port,) = free_ports(1)
    process.start([str(valkey.binary()), *arguments, "--port", str(port), "--bind", HOST])
    eventually(lambda: is_listening(port), what="Valkey's port")
    url = (secrets / "redis_url").read_text().strip().replace("valkey:6379", f"{HOST}:{port}")
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        settings = client.config_get("*")
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    with redis.Redis(host=HOST, port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


@pytest.mark.parametrize("name", [name for name in our_services(COMPOSE) if name != "migrate"])
def test_the_health_check_says_what_readyz_says(name: str) -> None:
    """Well means ready: neither a process that waits for a server nor one that is gone is well."""
    kind, program, *arguments, _port = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    (port,) = free_ports(1)
    problem: list[str | None] = [None]
    readiness = Readiness()
    readiness.add("kafka", lambda: problem[0])

    def is_well() -> bool:
        command = [sys.executable, *arguments, str(port)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603

    assert not is_well()
    with serve_admin(HOST, port, CollectorRegistry(), readiness):
        eventually(is_well, what="a ready process being well")
        problem[0] = "does not answer"
        assert not is_well()
