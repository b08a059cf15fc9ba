"""The embedded servers: data survives whatever ends them, and nobody gets in another's way."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ops.embedded.errors import EmbeddedError
from ops.embedded.processes import Process, start_time
from ops.embedded.stack import KafkaCluster, Ports, Stack
from support.polling import eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded",
    reason="tests the embedded servers themselves",
)

HOLD = """
import sys, time
from pathlib import Path
from ops.embedded.stack import Ports, Stack
ports = Ports(*map(int, sys.argv[2:]))
with Stack(Path(sys.argv[1]), ports=ports):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Provide a running stack of the test's own."""
    with Stack(tmp_path / "data", ports=Ports.free()) as found:
        yield found


def write_something(stack: Stack) -> None:
    """Leave a trace in each server."""
    with psycopg.connect(stack.postgres.url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    with redis.Redis.from_url(stack.valkey.url) as client:
        client.set("kept", "42")
        client.waitaof(1, 0, 2000)
    admin = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
    producer = Producer({"bootstrap.servers": stack.kafka.bootstrap, "acks": "all"})
    producer.produce("kept", b"42")
    assert producer.flush(10) == 0


def read_something(stack: Stack) -> tuple[object, object, object]:
    """Return the traces."""
    with psycopg.connect(stack.postgres.url) as connection:
        row = connection.execute("SELECT n FROM kept").fetchone()
    with redis.Redis.from_url(stack.valkey.url) as client:
        value = client.get("kept")
    consumer = Consumer({"bootstrap.servers": stack.kafka.bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition("kept", 0, 0)])
    found = consumer.consume(1, 10)
    consumer.close()
    return row, value, [message.value() for message in found]


KEPT = ((42,), b"42", [b"42"])


def test_data_survives_a_stop_and_a_kill_of_each_server(stack: Stack) -> None:
    """What was acknowledged is there after SIGKILL and a start, and after a stop in order."""
    write_something(stack)
    for server in stack.servers:
        server.kill()
        assert not server.is_alive()
        server.start()
    assert read_something(stack) == KEPT
    stack.stop()
    stack.start()
    assert read_something(stack) == KEPT


def test_servers_die_with_a_killed_parent_and_data_survives(tmp_path: Path) -> None:
    """After kill -9 of the owner nothing is left running, and the folder starts again."""
    ports = Ports.free()
    numbers = [str(port) for port in (ports.kafka, ports.controller, ports.postgres, ports.valkey)]
    data = tmp_path / "data"
    owner = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HOLD, str(data), *numbers], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        pids = [json.loads(path.read_text())["pid"] for path in (data / "run").glob("*.pid")]
        assert len(pids) == 3
        owner.kill()
    if sys.platform == "linux":
        eventually(lambda: all(start_time(pid) is None for pid in pids), what="their end")
    with Stack(data, ports=ports) as stack:
        assert all(server.is_alive() for server in stack.servers)


def test_a_left_over_server_is_found_and_stopped(tmp_path: Path) -> None:
    """A process that outlived its owner is ended by its pid file before the next start."""
    orphan = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    run = tmp_path / "run"
    run.mkdir()
    identity = {"pid": orphan.pid, "started": start_time(orphan.pid)}
    (run / "valkey.pid").write_text(json.dumps(identity))
    Process("valkey", tmp_path).stop_left_over()
    assert orphan.wait(10) == -signal.SIGTERM


def test_a_stranger_with_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    """A pid alone proves nothing: the start time must be the same as well."""
    stranger = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    run = tmp_path / "run"
    run.mkdir()
    (run / "valkey.pid").write_text(json.dumps({"pid": stranger.pid, "started": "1"}))
    Process("valkey", tmp_path).stop_left_over()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_second_start_on_the_folder_is_refused(stack: Stack) -> None:
    """The first owner is named, and keeps running with its pid files."""
    second = Stack(stack.data_dir, ports=Ports.free())
    with pytest.raises(EmbeddedError, match=rf"process {os.getpid()}.*--data-dir"):
        second.start()
    second.stop()
    assert all(server.is_alive() for server in stack.servers)
    assert len(list((stack.data_dir / "run").glob("*.pid"))) == 3


@pytest.mark.parametrize(
    ("server", "setting"),
    [
        ("kafka", "HOOKLINE_EMBEDDED_KAFKA_PORT"),
        ("controller", "HOOKLINE_EMBEDDED_CONTROLLER_PORT"),
        ("postgres", "HOOKLINE_EMBEDDED_POSTGRES_PORT"),
        ("valkey", "HOOKLINE_EMBEDDED_VALKEY_PORT"),
    ],
)
def test_a_busy_port_is_named_with_its_setting(tmp_path: Path, server: str, setting: str) -> None:
    """The person learns which port, of which server, and what moves it."""
    ports = Ports.free()
    with socket.socket() as other:
        other.bind(("127.0.0.1", getattr(ports, server)))
        other.listen()
        stack = Stack(tmp_path, ports=ports)
        with pytest.raises(EmbeddedError, match=rf"{getattr(ports, server)}.*{setting}"):
            stack.start()
    assert not any(running.is_alive() for running in stack.servers)


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The last lines of the log are in the error."""
    process = Process("valkey", tmp_path)
    process.start(["/bin/sh", "-c", "echo out of luck; exit 3"])
    with pytest.raises(EmbeddedError, match="out of luck"):
        process.wait_ready(lambda: False, 10)


def test_three_brokers_replicate(tmp_path: Path) -> None:
    """A cluster from the same code keeps acknowledged records when a broker is killed."""
    cluster = KafkaCluster(tmp_path, properties={"broker.session.timeout.ms": "3000"})
    try:
        cluster.start()
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        topic = NewTopic("kept", 1, 3, config={"min.insync.replicas": "2"})
        admin.create_topics([topic])["kept"].result()
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})
        errors: list[object] = []
        for number in range(20):
            if number == 10:
                cluster.brokers[0].kill()
            producer.produce("kept", b"42", on_delivery=lambda error, _: errors.append(error))
            assert producer.flush(60) == 0
        assert errors == [None] * 20
    finally:
        cluster.stop()
