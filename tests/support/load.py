"""A known load: simulated customers whose outcome is known without asking hookline."""

import json
import random
import threading

from ops.invariants.checker import find
from ops.invariants.subject import Finding
from ops.simulator.history import History, World
from ops.simulator.truth import CustomerTruth
from support.invariants import check_view, subject_of
from support.pipeline import Pipeline
from support.stripe import Json

END = 1_795_000_000


def histories(count: int, seed: str) -> list[History]:
    """Return so many customers, about twenty events each."""
    return list(World(seed, END).histories(count))


def shuffled(known: list[History], copies: int = 1, seed: int = 1) -> list[Json]:
    """Return all events of these customers in one order, each so many times."""
    events = [json.loads(event.body) for history in known for event in history.events] * copies
    random.Random(seed).shuffle(events)  # noqa: S311 - the same order each time
    return events


def find_mismatches(pipeline: Pipeline, truths: list[CustomerTruth]) -> list[Finding]:
    """Hold rows, audit trail and dead letters against what is true, the gatekeeper if it runs."""
    with subject_of(pipeline, truths=truths) as subject:
        return find(subject, ("I2", "I4"))


def check_outcome(pipeline: Pipeline, known: list[History]) -> None:
    """Demand that everything is as it must be, the view that SQL users read included."""
    truths = [history.truth for history in known]
    assert find_mismatches(pipeline, truths) == []
    check_view(pipeline, truths)


class Load:
    """Posts events from a thread while the test does harm."""

    def __init__(self, pipeline: Pipeline, events: list[Json]) -> None:
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
