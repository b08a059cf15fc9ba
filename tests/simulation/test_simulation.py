"""Consumers on twins of their servers: whatever fails, everything is applied exactly once."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import structlog

import consumer.batch
import consumer.halt
import consumer.passes
import consumer.storage.positions
from consumer.batch import Batch
from consumer.loop import Loop
from consumer.passes import Pass, Scope, marks_of
from consumer.storage.dead_letters import Reason
from consumer.storage.ledger import Transaction
from support.proving import PROVING, SEED, Proof, examples
from support.simulation.run import Outcome, look_at
from support.twins.ledger import MemoryTransaction

RUNS = examples(10_000, 100)
BROKEN_RUNS = 60


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Give the log back to the other tests."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def outcomes(seeds: list[str]) -> Iterator[tuple[str, Outcome]]:
    """Run seeds: on all cores in a long run, in this process else."""
    if not PROVING or len(seeds) == 1:
        yield from ((seed, look_at(seed)) for seed in seeds)
        return
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from zip(seeds, pool.map(look_at, seeds, chunksize=20), strict=True)


def test_whatever_fails_everything_is_applied_once(proof: Proof) -> None:
    """Calls fail, answers are lost, processes die or stop, servers go back in time: all stands."""
    # One run of many is replayed by its own seed, such as 1f0c22ab:17.
    seeds = [SEED] if ":" in SEED else [f"{SEED}:{number}" for number in range(RUNS)]
    seen: Counter[str] = Counter()
    for seed, outcome in proof.track(outcomes(seeds), len(seeds)):
        if outcome.problems:
            story = "\n".join([*outcome.story, *outcome.problems])
            again = f"make simulate-faults SEED={seed} ARGS='-k whatever_fails'"
            pytest.fail(f"{story}\n{again}", pytrace=False)
        seen.update(outcome.counts + outcome.seen)
    proof.count(runs=len(seeds), **dict(seen.most_common()))


def test_a_seed_gives_the_same_run_again() -> None:
    """A failing seed can be looked at as often as it takes."""
    first, second = look_at("again"), look_at("again")
    assert first.story
    assert first == second


# --- broken on purpose


def mark_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the marks while the transaction is open."""
    fold = Batch._fold  # noqa: SLF001 - the step before COMMIT

    def fold_and_mark(self: Batch, transaction: Transaction, pass_: Pass, scope: Scope) -> None:
        fold(self, transaction, pass_, scope)
        self._hints.after([], marks_of(pass_), [])

    monkeypatch.setattr(Batch, "_fold", fold_and_mark)


def believe_every_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not ask whether the position backs a mark."""
    monkeypatch.setattr(consumer.passes, "backed_marks", lambda marks, _: set(marks))


def do_not_lock_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read customers as SELECT without FOR UPDATE does."""
    monkeypatch.setattr(MemoryTransaction, "lock_customers", MemoryTransaction.add_customers)


def go_forward_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set positions to the greatest offset, whatever stands there, as GREATEST would."""
    monkeypatch.setattr(consumer.storage.positions, "_compare", lambda *_: None)


def do_not_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on where the client stands, whatever the position says."""
    monkeypatch.setattr(Loop, "_seek", lambda *_: None)


def look_only_when_records_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the next batch to notice that the database was set back."""
    monkeypatch.setattr(Loop, "_look_for_a_step_back", lambda _: None)


def mark_failed_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark an event although it failed."""

    def mark_all(pass_: Pass) -> Any:
        pass_.changes.letters.clear()
        return marks_of(pass_)

    monkeypatch.setattr(consumer.batch, "marks_of", mark_all)


def halt_for_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count what strangers send towards the halt, with limits that a few records reach."""
    for name, value in {"OURS": tuple(Reason), "LETTERS": 3, "CUSTOMERS": 0, "SHARE": 0}.items():
        monkeypatch.setattr(consumer.halt, name, value)


@pytest.mark.parametrize(
    "breaking",
    [
        mark_before_the_commit,
        believe_every_mark,
        do_not_lock_customers,
        go_forward_only,
        do_not_seek,
        look_only_when_records_come,
        mark_failed_events,
        halt_for_strangers,
    ],
    ids=lambda breaking: breaking.__name__,
)
def test_a_broken_consumer_does_not_pass(breaking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule that keeps events from being lost or doubled is missed within some runs."""
    breaking(monkeypatch)
    assert any(look_at(f"broken:{number}").problems for number in range(BROKEN_RUNS))
