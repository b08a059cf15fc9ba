"""What a consumer that dies, freezes or is told to stop may not do: lose, double or stand still."""

import os
import signal

import httpx2 as httpx
import pytest

from support.load import Load, check_outcome, histories, shuffled
from support.pipeline import Pipeline, recorded
from support.polling import eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded",
    reason="kills servers, so it starts its own",
)

CONSUMERS = ("consumer-1", "consumer-2")


def test_01_a_killed_consumer_is_replaced(deployment: Pipeline) -> None:
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


def test_02_a_stopped_consumer_that_comes_back_does_no_harm(deployment: Pipeline) -> None:
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


def test_04_a_consumer_stops_in_order(deployment: Pipeline) -> None:
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
