"""Who is called when a server or a process breaks under load: by real rules, in real time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.embedded.stack import Stack
from support.pipeline import Pipeline
from support.polling import eventually
from support.prometheus import Prometheus, prometheus
from support.proving import Proof

PARTS = ("ingest", "gatekeeper", "consumer-1", "consumer-2")
FIRES_WITHIN = 300.0
WATCHED_SECONDS = 120.0
"""After an alert has fired: another that were to come would have come."""

LATER = {"HooklineDelayBudgetBurnsFast", "HooklineDelayBudgetBurnsSlowly"}
"""What waited for PostgreSQL is late once it is applied: that budget is spent indeed."""


class Watch:
    """Looks at the alerts all the time, and remembers which fired."""

    def __init__(self, running: Prometheus) -> None:
        self._running = running
        self.said: dict[str, str] = {}

    def firing(self) -> set[str]:
        """Return what fires now."""
        said = self._running.summaries()
        self.said |= said
        return set(said)

    def wait_for_one(self) -> float:
        """Wait until something fires, and for a while longer; return how long the first took."""
        self.said.clear()
        began = time.monotonic()
        eventually(lambda: bool(self.firing()), FIRES_WITHIN, "an alert")
        took = time.monotonic() - began
        eventually(lambda: self._has_watched(began + took + WATCHED_SECONDS), 2 * WATCHED_SECONDS)
        return took

    def _has_watched(self, until: float) -> bool:
        self.firing()
        return time.monotonic() > until

    def wait_for_peace(self, but: frozenset[str] = frozenset()) -> float:
        """Wait until nothing fires; return how long it took."""
        began = time.monotonic()
        eventually(lambda: self.firing() <= but, FIRES_WITHIN, "the end of all alerts")
        return time.monotonic() - began


@contextmanager
def traffic(pipeline: Pipeline) -> Iterator[None]:
    """Send simulated customers' events at five a second for as long as needed."""
    command = [str(Path(sys.executable).parent / "hookline"), "simulate"]
    with (pipeline.folder / "simulate.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--customers", "2000", "--rate", "5"],
            env={**os.environ, **pipeline.variables},
            stdout=log,
            stderr=log,
        )
        try:
            yield
            assert process.poll() is None, "the traffic ended before the test did"
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.long_run
def test_the_right_alert_and_only_it(
    deployment: Pipeline, stack: Stack, tmp_path: Path, proof: Proof
) -> None:
    """Redis, then a consumer, then PostgreSQL: each calls by its own name, and is heard ending."""
    deployment.start(*PARTS)
    members = deployment.members
    ports = {
        "ingest": [members["ingest"].port],
        "gatekeeper": [members["gatekeeper"].port],
        "consumer": [members["consumer-1"].port, members["consumer-2"].port],
    }
    with prometheus(tmp_path, ports) as running, traffic(deployment):
        watch = Watch(running)
        eventually(lambda: bool(running.query("hookline:events:rate5m > 0")), 180, "traffic")
        assert watch.firing() == set()

        stack.valkey.kill()
        redis = watch.wait_for_one()
        assert watch.said.keys() == {"HooklineRedisAway"}, watch.said
        stack.valkey.start()
        redis_over = watch.wait_for_peace()

        members["consumer-2"].process.kill()
        consumer = watch.wait_for_one()
        assert watch.said.keys() == {"HooklineConsumerHalted"}, watch.said
        members["consumer-2"].start()
        consumer_over = watch.wait_for_peace()

        stack.postgres.kill()
        postgres = watch.wait_for_one()
        assert watch.said.keys() == {"HooklineStandstill"}, watch.said
        stack.postgres.start()
        postgres_over = watch.wait_for_peace(frozenset(LATER))
        assert watch.said.keys() - LATER == {"HooklineStandstill"}, watch.said
        assert running.problems() == []
    proof.count(
        seconds_to_redis=round(redis),
        seconds_to_its_end=round(redis_over),
        seconds_to_consumer=round(consumer),
        seconds_to_the_end_of_it=round(consumer_over),
        seconds_to_postgresql=round(postgres),
        seconds_to_the_end_of_that=round(postgres_over),
    )
