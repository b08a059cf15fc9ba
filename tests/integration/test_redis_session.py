"""Which Redis is taken: a primary, by name or through Sentinel; what no waiting mends is said."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry

from consumer.storage.bounded_redis import BoundedRedis
from consumer.storage.redis_session import Session, WrongRedisError, find_primary, open_session
from ops.embedded.ports import HOST, free_ports, is_listening
from ops.embedded.processes import Process
from ops.embedded.valkey import Valkey, binary
from schemas.labels import RedisOperation
from schemas.metrics import RedisMetrics
from support.polling import eventually

Run = Callable[..., tuple[Process, int]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Provide a way to start servers of one's own, with options."""
    started: list[Process] = []

    def start(name: str, *options: str) -> tuple[Process, int]:
        (port,) = free_ports(1)
        process = Process(name, tmp_path)
        started.append(process)
        place = ("--bind", HOST, "--port", str(port), "--dir", str(tmp_path), "--save", "")
        process.start([str(binary()), *place, *options])
        eventually(lambda: is_listening(port), what=name)
        return process, port

    yield start
    for process in started:
        process.stop()


def test_a_wrong_password_is_said(run: Run) -> None:
    """One sentence that names the setting, never the password."""
    _, port = run("guarded", "--requirepass", "right")
    assert open_session(f"redis://:right@{HOST}:{port}/0").client.ping()
    for user in ("", ":wrong@"):
        with pytest.raises(WrongRedisError, match="HOOKLINE_REDIS_URL") as caught:
            open_session(f"redis://{user}{HOST}:{port}/0")
        assert "wrong@" not in str(caught.value)


def test_a_cluster_is_refused(run: Run) -> None:
    """A batch's keys would lie on many nodes."""
    (bus,) = free_ports(1)  # by default ten thousand above the port, where there may be none
    cluster = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
    _, port = run("node", *cluster, "--cluster-port", str(bus))
    with pytest.raises(WrongRedisError, match="cluster"):
        open_session(f"redis://{HOST}:{port}/0")


def test_a_server_that_takes_no_writes_is_unknown(run: Run) -> None:
    """A replica behind the address is like no Redis: counted, and the connection dropped."""
    _, primary = run("primary")
    _, replica = run("replica", "--replicaof", f"{HOST} {primary}")
    registry = CollectorRegistry()
    bounded = BoundedRedis(
        lambda: open_session(f"redis://{HOST}:{replica}/0"), RedisMetrics(registry)
    )

    def write(session: Session) -> bool:
        pipeline = session.client.pipeline(transaction=False)
        pipeline.set("key", "value")
        bounded.note_refusals(RedisOperation.BEFORE, pipeline.execute(raise_on_error=False))
        return True

    assert bounded.ask(RedisOperation.BEFORE, write) is None
    name = "hookline_redis_unknown_total"
    assert registry.get_sample_value(name, {"operation": "before"}) == 1
    bounded.close()


def test_a_session_never_goes_on_with_another_server(valkey: Valkey) -> None:
    """A restart between two calls fails the next one: it would drop entries of the old server."""
    metrics = RedisMetrics(CollectorRegistry())
    bounded = BoundedRedis(lambda: open_session(valkey.url), metrics, call_seconds=5)

    def compare(session: Session) -> bool:
        pipeline = session.client.pipeline(transaction=False)
        pipeline.info("server")
        return str(pipeline.execute()[0]["run_id"]) == session.generation

    assert bounded.ask(RedisOperation.AFTER, compare) is True
    valkey.kill()
    valkey.start()
    assert [bounded.ask(RedisOperation.AFTER, compare) for _ in range(2)] == [None, True]
    bounded.close()


def test_sentinel_leads_to_the_primary_and_to_its_successor(run: Run, tmp_path: Path) -> None:
    """After a fail-over the next connection is to the new primary, of another generation."""
    first, primary = run("primary")
    _, replica = run("replica", "--replicaof", f"{HOST} {primary}")
    link = redis.Redis(host=HOST, port=replica)
    eventually(lambda: link.info("replication")["master_link_status"] == "up")
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor ours {HOST} {primary} 1\n"
        "sentinel down-after-milliseconds ours 500\n"
        "sentinel failover-timeout ours 5000\n"
    )
    (port,) = free_ports(1)
    watcher = Process("sentinel", tmp_path)
    watcher.start([str(binary()), str(config), "--sentinel", "--port", str(port), "--bind", HOST])
    try:
        eventually(lambda: is_listening(port), what="sentinel")
        (nobody,) = free_ports(1)
        url = f"redis+sentinel://{HOST}:{nobody},{HOST}:{port}/ours/0"
        asked = redis.Redis(host=HOST, port=port)
        eventually(lambda: len(asked.sentinel_slaves("ours")) == 1, what="the replica is known")
        assert find_primary(url) == f"redis://{HOST}:{primary}/0"
        session = open_session(url)
        assert session.client.set("key", "value")

        first.kill()
        eventually(lambda: find_primary(url).endswith(f":{replica}/0"), what="the fail-over")
        eventually(lambda: link.info("replication")["role"] == "master", what="the promotion")
        successor = open_session(url)
        assert successor.client.set("key", "value")
        assert successor.generation != session.generation
        asked.close()
    finally:
        watcher.stop()
        link.close()
