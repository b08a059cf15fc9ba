"""A known load: simulated customers whose outcome is known without asking hookline."""

import asyncio
import json
import random
import threading
import time

from pydantic import SecretStr
from sqlalchemy import Engine

from consumer.storage.engine import make_engine
from ops.demo.verify import Mismatch, check_answers, check_rows
from ops.simulator.history import History, World
from ops.simulator.truth import GRACE_SECONDS, CustomerTruth
from schemas.settings import DatabaseSettings
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


def engine_of(pipeline: Pipeline) -> Engine:
    """Return an engine on a deployment's database."""
    url = SecretStr(pipeline.variables["HOOKLINE_DATABASE_URL"])
    return make_engine(DatabaseSettings(database_url=url), "test")


def find_mismatches(pipeline: Pipeline, truths: list[CustomerTruth]) -> list[Mismatch]:
    """Hold rows, audit trail and dead letters against what is true, the gatekeeper if it runs."""
    with engine_of(pipeline).connect() as connection:
        found = list(check_rows(connection, truths, GRACE_SECONDS))
    if "gatekeeper" in pipeline.members:
        url = pipeline.variables["HOOKLINE_GATEKEEPER_URL"]
        found += asyncio.run(check_answers(url, None, truths, GRACE_SECONDS))
    return found


def check_outcome(pipeline: Pipeline, known: list[History]) -> None:
    """Demand that everything is as it must be, the view that SQL users read included."""
    truths = [history.truth for history in known]
    assert find_mismatches(pipeline, truths) == []
    view = pipeline.query("SELECT customer_id, tier, entitled, status FROM customer_entitlements")
    found = {customer: tuple(rest) for customer, *rest in view}
    answers = {truth.customer_id: truth.answer(time.time()) for truth in truths}
    wanted = {c: (answer.tier, answer.entitled, answer.status) for c, answer in answers.items()}
    pairs = {c: (found.get(c), wanted.get(c)) for c in found.keys() | wanted.keys()}
    wrong = {c: pair for c, pair in pairs.items() if pair[0] != pair[1]}
    assert not wrong, wrong


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
