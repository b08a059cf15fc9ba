"""What a killed process or server may not do: lose, double, stand still, or lie with a 200."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from ops.embedded.stack import Ports, Stack
from ops.migrate import migrate
from schemas.settings import MigrateSettings, load
from support.load import check_outcome, histories, shuffled
from support.pipeline import Pipeline, counted, environment, recorded
from support.polling import eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded",
    reason="kills servers, so it starts its own",
)


CONSUMERS = ("consumer-1", "consumer-2")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Provide servers that the test may kill."""
    with Stack(tmp_path / "stack", ports=Ports.free()) as found:
        yield found


@pytest.fixture
def deployment(tmp_path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """Provide a migrated deployment on them."""
    variables = environment(tmp_path, stack.kafka.bootstrap, stack.postgres.url, stack.valkey.url)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        migrate(load(MigrateSettings))
    pipeline = Pipeline(tmp_path, variables)
    yield pipeline
    pipeline.stop()


def pids(pipeline: Pipeline) -> dict[str, int]:
    """Return the process of each member: the same ones must be there after a fault."""
    return {name: member.process.pid for name, member in pipeline.members.items()}


def owned(pipeline: Pipeline, name: str) -> float:
    """Return how many partitions a consumer owns."""
    return counted(pipeline.metrics(name), "hookline_consumer_partitions")[""]


def is_ready(pipeline: Pipeline, name: str) -> bool:
    """Tell whether a process is ready."""
    return pipeline.readiness(name)[0] == httpx.codes.OK


def log_of(pipeline: Pipeline, name: str) -> str:
    """Return a process's log so far."""
    return pipeline.members[name].process.log.read_text()


def logged_event_ids(bootstrap: str) -> set[str]:
    """Return the ids of all events in the log."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "audit"})
    topic = consumer.list_topics("stripe.events", timeout=10).topics["stripe.events"]
    found: set[str] = set()
    for partition in topic.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition("stripe.events", partition))
        consumer.assign([TopicPartition("stripe.events", partition, low)])
        while low < high:
            for message in consumer.consume(500, 1.0):
                assert message.error() is None
                low = (message.offset() or 0) + 1
                found |= {v.decode() for n, v in message.headers() or [] if n == "ce_id"}  # type: ignore[str-unpack,union-attr]
    consumer.close()
    return found


class Load:
    """Posts events from a thread while the test does harm."""

    def __init__(self, pipeline: Pipeline, events: list[dict[str, object]]) -> None:
        self.events = events
        self.answers: list[int] = []
        self._pipeline = pipeline
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for start in range(0, len(self.events), 100):
            self.answers += self._pipeline.post_all(self.events[start : start + 100], threads=16)

    def wait(self) -> list[int]:
        """Wait for the last answer and return all."""
        self._thread.join()
        return self.answers


def test_a_killed_consumer_is_replaced(deployment: Pipeline) -> None:
    """A kill -9 in mid-batch: the other takes over, nothing is lost, nothing twice."""
    deployment.start("ingest", *CONSUMERS)
    known = histories(40, "k")
    load_ = Load(deployment, shuffled(known, copies=2))
    eventually(lambda: recorded(deployment) > 50, what="the first batches")
    deployment.members["consumer-1"].process.kill()
    assert set(load_.wait()) == {200}
    events = len({str(document["id"]) for document in load_.events})
    eventually(lambda: recorded(deployment) == events, 60, "the takeover")
    check_outcome(deployment, known)
    assert deployment.query("SELECT count(*) FROM dead_letters") == [(0,)]


def test_a_stopped_consumer_that_comes_back_does_no_harm(deployment: Pipeline) -> None:
    """A process frozen past its session finds its positions moved on, and overwrites nothing."""
    deployment.start("ingest", *CONSUMERS)
    known = histories(25, "z")
    load_ = Load(deployment, shuffled(known))
    eventually(lambda: recorded(deployment) > 20, what="the first batches")
    frozen = deployment.members["consumer-1"].process.pid
    os.kill(frozen, signal.SIGSTOP)
    load_.wait()
    events = len(load_.events)
    eventually(lambda: recorded(deployment) == events, 60, "the takeover")
    os.kill(frozen, signal.SIGCONT)
    eventually(lambda: deployment.readiness("consumer-1")[0] == httpx.codes.OK, 60)
    check_outcome(deployment, known)


def test_kafka_killed_under_load(deployment: Pipeline, stack: Stack) -> None:
    """No 200 without a record; 503 with Retry-After meanwhile; recovery without a restart."""
    deployment.start("ingest", *CONSUMERS)
    before = pids(deployment)
    known = histories(25, "b")
    events = shuffled(known)
    load_ = Load(deployment, events)
    eventually(lambda: recorded(deployment) > 50, what="the first batches")
    stack.kafka.kill()
    answer = deployment.post(events[0])
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"].isdigit()
    assert answer.elapsed.total_seconds() < 8
    eventually(lambda: deployment.readiness("ingest")[0] == httpx.codes.SERVICE_UNAVAILABLE)
    stack.kafka.start()
    answers = load_.wait()
    assert set(answers) <= {200, 503}
    accepted = {str(e["id"]) for e, a in zip(events, answers, strict=True) if a == httpx.codes.OK}
    assert accepted <= logged_event_ids(stack.kafka.bootstrap)

    # What was refused, Stripe sends again.
    refused = [e for e, a in zip(events, answers, strict=True) if a != httpx.codes.OK]
    assert refused
    eventually(lambda: deployment.post(events[0]).status_code == httpx.codes.OK, 30)
    assert set(deployment.post_all(refused)) == {200}
    eventually(lambda: recorded(deployment) == len(events), 60, "catching up")
    check_outcome(deployment, known)
    assert pids(deployment) == before


def test_postgresql_killed_under_load(deployment: Pipeline, stack: Stack) -> None:
    """Consumers wait in their group, set nothing aside, and apply everything afterwards."""
    deployment.start("ingest", *CONSUMERS)
    eventually(lambda: all(owned(deployment, name) == 6 for name in CONSUMERS))
    before = pids(deployment)
    logs = {name: log_of(deployment, name) for name in CONSUMERS}
    known = histories(25, "p")
    events = shuffled(known)
    load_ = Load(deployment, events)
    eventually(lambda: recorded(deployment) > 50, what="the first batches")
    stack.postgres.kill()
    assert set(load_.wait()) == {200}
    eventually(lambda: all(not is_ready(deployment, name) for name in CONSUMERS))
    stack.postgres.start()
    eventually(lambda: recorded(deployment) == len(events), 60, "catching up")
    check_outcome(deployment, known)
    assert deployment.query("SELECT count(*) FROM dead_letters") == [(0,)]
    assert pids(deployment) == before
    for name, log in logs.items():
        assert "partitions_released" not in log_of(deployment, name)[len(log) :]


def test_valkey_killed_under_load(deployment: Pipeline, stack: Stack) -> None:
    """Work goes on without Redis, and with it once it is back."""
    deployment.start("ingest", *CONSUMERS)
    known = histories(15, "v")
    events = shuffled(known, copies=2)
    half = len(events) // 2
    assert set(deployment.post_all(events[:half])) == {200}
    stack.valkey.kill()
    assert set(deployment.post_all(events[half:])) == {200}
    eventually(lambda: recorded(deployment) == len(events) // 2, 60, "applying without Redis")
    check_outcome(deployment, known)
    breaker = "hookline_redis_unknown_total"
    assert any(breaker + "{" in deployment.metrics(n) for n in CONSUMERS)
    stack.valkey.start()
    more = histories(4, "w")
    assert set(deployment.post_all(shuffled(more))) == {200}
    eventually(lambda: recorded(deployment) == len(events) // 2 + sum(len(m.events) for m in more))
    check_outcome(deployment, [*known, *more])


def test_a_consumer_stops_in_order(deployment: Pipeline) -> None:
    """SIGTERM under load: the batch is finished, the exit code is 0, nothing is applied twice."""
    deployment.start("ingest", "consumer-1")
    known = histories(20, "t")
    load_ = Load(deployment, shuffled(known))
    eventually(lambda: recorded(deployment) > 20, what="the first batches")
    process = deployment.members["consumer-1"].process
    process.stop()
    assert '"event": "stopped"' in process.log.read_text()
    load_.wait()
    deployment.start("consumer-1")
    eventually(lambda: recorded(deployment) == len(load_.events), 60, "the rest")
    check_outcome(deployment, known)
