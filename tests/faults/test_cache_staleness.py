"""No answer is older than the README promises, while consumers commit and Redis and they die."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from ops.embedded.valkey import Valkey
from schemas.settings import ReaderSettings
from support.cache_staleness import Changes, Readers, commits_of, drop_nothing
from support.forked import Fleet, Limits
from support.polling import eventually
from support.proving import PROVING, Proof, examples
from support.rest import wait_for_rest
from support.topic import Topic

HEALTHY_SECONDS = 0.25
HEALTHY_SHARE = 0.999
MOST_SECONDS = examples(2.0, 3.0)
"""How old an answer may be after a fault: README.md, "How old an answer can be".

`make test` runs on machines that do other work, which may keep a consumer waiting for a while.
"""

LONG_ENOUGH = MOST_SECONDS + 0.5
"""An answer that is too old has been given by then."""

READS = examples(1_000_000, 20_000)
CONSUMERS = ("consumer-1", "consumer-2")


@dataclass
class Scene:
    """Who reads, who commits, and the server between them."""

    fleet: Fleet
    valkey: Valkey
    readers: Readers

    def flush(self) -> None:
        """Let Redis forget everything."""
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()
        self.readers.go_on(examples(10_000, 500))

    def kill_a_consumer(self) -> None:
        """Kill a consumer between its COMMIT and Redis; another one runs."""
        self.let_die()
        self.readers.go_on(0, LONG_ENOUGH)

    def let_die(self) -> None:
        """Start a consumer that dies after a COMMIT.

        Not in its first batches: they may repeat what its predecessor has applied.
        """
        victim = self.fleet.spawn("victim", "after_commit:kill@8")
        eventually(lambda: not victim.is_alive(), 60, "its death")

    def restart_redis(self) -> None:
        """Kill Redis, and start it with what it wrote down."""
        with self.readers.without_redis():
            self.valkey.kill()
            self.valkey.start()
        self.readers.go_on(0, LONG_ENOUGH)

    def stop_redis(self) -> None:
        """Let Redis hang for so long that everybody leaves it alone, and come back as it was."""
        with self.readers.without_redis():
            pid = self.valkey.process.pid
            os.kill(pid, signal.SIGSTOP)
            try:
                self.readers.go_on(0, LONG_ENOUGH)
            finally:
                os.kill(pid, signal.SIGCONT)
        self.readers.go_on(0, LONG_ENOUGH)


FAULTS: dict[str, Callable[[Scene], None]] = {
    "flush": Scene.flush,
    "kill": Scene.kill_a_consumer,
    "restart": Scene.restart_redis,
    "hang": Scene.stop_redis,
}


@contextmanager
def scene(
    fleet: Fleet, valkey: Valkey, log: Topic, proof: Proof, limits: Limits | None = None
) -> Iterator[tuple[Scene, Changes]]:
    """Provide consumers that commit all the time, and readers that read all the time."""
    fleet.variables = {**fleet.variables, "HOOKLINE_REDIS_URL": valkey.url}
    fleet.limits = limits or {}
    fleet.start(*CONSUMERS)
    settings = ReaderSettings(
        database_url=SecretStr(fleet.variables["HOOKLINE_DATABASE_URL"]),
        redis_url=SecretStr(valkey.url),
        plans_file=Path(fleet.variables["HOOKLINE_PLANS_FILE"]),
    )
    with Changes(fleet, log, proof.random) as changes, Readers(settings, proof.random) as readers:
        yield Scene(fleet, valkey, readers), changes


def test_no_answer_is_older_than_promised(
    fleet: Fleet, valkey: Valkey, log: Topic, proof: Proof
) -> None:
    """Without a fault 99.9 % of answers show a COMMIT within 250 ms, after one all within 2 s."""
    with scene(fleet, valkey, log, proof) as (stage, changes):
        readers = stage.readers
        readers.go_on(READS // 2)
        healthy = readers.count
        ends: list[tuple[str, int]] = []
        while readers.count < READS or not ends:
            for name, fault in FAULTS.items():
                fault(stage)
                ends.append((name, readers.count))
    wait_for_rest(fleet)

    calm = readers.judge(fleet, 0, healthy)
    proof.count(
        reads=readers.count,
        reads_without_a_fault=healthy,
        out_of_the_cache=readers.cached,
        unanswered=readers.unanswered,
        behind=calm.behind,
        p999_us=round(calm.quantile(HEALTHY_SHARE) * 1e6),
        oldest_ms=round(calm.oldest * 1e3),
        events=len(changes.sent),
        commits=sum(map(len, commits_of(fleet).values())),
    )
    first = healthy
    oldest: dict[str, float] = {}
    for name, end in ends:
        found = readers.judge(fleet, first, end)
        first = end
        oldest[name] = max(oldest.get(name, 0.0), found.oldest)
        proof.count(**{f"{name}s": 1, f"behind_after_{name}": found.behind})
    proof.count(**{f"oldest_ms_after_{name}": round(age * 1e3) for name, age in oldest.items()})
    assert calm.oldest <= MOST_SECONDS
    assert not PROVING or calm.quantile(HEALTHY_SHARE) <= HEALTHY_SECONDS
    assert {name: age for name, age in oldest.items() if age > MOST_SECONDS} == {}


BROKEN: dict[str, Limits] = {
    "nothing is dropped": {
        "consumer.storage.hints.drop_entries": drop_nothing,
        "consumer.storage.invalidation.drop_entries": drop_nothing,
    },
    "nothing is swept": {"consumer.storage.invalidation.SWEEP_ROWS": 0},
}


@pytest.mark.parametrize("what", BROKEN)
def test_answers_of_a_broken_consumer_are_found_old(
    fleet: Fleet, valkey: Valkey, log: Topic, proof: Proof, what: str
) -> None:
    """Consumers that drop nothing, or only what they live to drop, leave answers past 2 s."""
    with scene(fleet, valkey, log, proof, BROKEN[what]) as (stage, changes):
        stage.readers.go_on(1_000)
        for _ in range(5):
            stage.let_die()
            with changes.paused():
                stage.readers.go_on(0, LONG_ENOUGH)
            if stage.readers.judge(fleet).oldest > MOST_SECONDS:
                return
    pytest.fail("no answer was found old")
