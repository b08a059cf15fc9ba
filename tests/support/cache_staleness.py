"""How old answers are: readers without a pause, commits by real consumers, every answer judged.

A trigger at the end of each consumer's transaction writes down which version of which customer is
about to be committed, and when, by PostgreSQL's clock, which on one machine is the readers' own.
An answer is as old as the first commit that it does not show was when it was asked for. Time in
which Redis was away does not count: what a consumer could not drop meanwhile it drops afterwards.
"""

import asyncio
import threading
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle
from random import Random
from types import TracebackType
from typing import Self

import uvloop
from redis.client import Pipeline

from consumer.gatekeeper.client import AsyncGatekeeper
from consumer.gatekeeper.primary import Unreadable
from schemas.settings import ReaderSettings
from support.forked import Fleet
from support.pipeline import Pipeline as Deployment
from support.polling import eventually
from support.stripe import Json, event, subscription
from support.topic import Topic

CUSTOMERS = tuple(f"cus_read{number}" for number in range(60))
READERS = 16
WRITE_EVERY_SECONDS = 0.02
"""One change of one customer, so each changes about every second."""

PRICES = ("price_pro", "price_ent")

_NOTE_COMMITS = """
CREATE TABLE noted_commits (customer_id text, version bigint, committed_at float8);
CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO noted_commits
  VALUES (NEW.customer_id, NEW.version, extract(epoch FROM clock_timestamp()));
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_commit AFTER UPDATE ON customers
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.version IS DISTINCT FROM NEW.version) EXECUTE FUNCTION note_commit();
"""


def drop_nothing(pipeline: Pipeline, _generation: str, _customers: Sequence[str]) -> None:
    """Drop no entry, and let it seem done: for consumers that are broken on purpose."""
    pipeline.ping()


class Changes:
    """Changes customers without end, through Kafka, from a thread; a context manager."""

    def __init__(self, fleet: Fleet, topic: Topic, random: Random) -> None:
        self._fleet = fleet
        self._topic = topic
        self._random = random
        self._seconds = count(1)
        self._prices: dict[str, Iterator[str]] = {one: cycle(PRICES) for one in CUSTOMERS}
        self._ending = threading.Event()
        self._pausing = False
        self._thread = threading.Thread(target=self._run, name="changes")
        self.sent: list[str] = []
        """Ids of events, in order."""

    def __enter__(self) -> Self:
        self._fleet.execute(_NOTE_COMMITS)
        self._send([self._change(customer) for customer in CUSTOMERS])
        known = "SELECT count(*) FROM subscriptions"
        eventually(lambda: self._fleet.query(known) == [(len(CUSTOMERS),)], what="the customers")
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Change nobody within the block, so that no later event drops what an earlier one left."""
        self._pausing = True
        yield
        self._pausing = False

    def _run(self) -> None:
        while not self._ending.wait(WRITE_EVERY_SECONDS):
            if not self._pausing:
                self._send([self._change(self._random.choice(CUSTOMERS))])

    def _send(self, events: list[Json]) -> None:
        self._topic.send(events)
        self.sent += [str(one["id"]) for one in events]

    def _change(self, customer: str) -> Json:
        """Return an event that changes the customer's answer: each one has another price."""
        owned = subscription(
            id=customer.replace("cus", "sub"),
            customer=customer,
            prices=(next(self._prices[customer]),),
        )
        return event("customer.subscription.updated", owned, next(self._seconds))


@dataclass(frozen=True, slots=True)
class Found:
    """How old answers were, in seconds, the youngest first."""

    ages: Sequence[float]

    @property
    def oldest(self) -> float:
        """Return the age of the oldest."""
        return self.ages[-1]

    @property
    def behind(self) -> int:
        """Return how many did not show every commit."""
        return len(self.ages) - bisect_left(self.ages, 1e-9)

    def quantile(self, share: float) -> float:
        """Return the age that so many answers do not exceed."""
        return self.ages[min(int(share * len(self.ages)), len(self.ages) - 1)]


class Readers:
    """Reads customers without a pause, many side by side, in a thread; a context manager."""

    def __init__(self, settings: ReaderSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._numbers = array("H")
        self._versions = array("q")
        self._asked = array("d")
        self.cached = 0
        """Answers that came out of the cache."""
        self.unanswered = 0
        """Questions that got none, for PostgreSQL did not answer in time: an error is not old."""
        self._ending = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="readers")
        self._away: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._ending = True
        self._thread.join()

    @property
    def count(self) -> int:
        """Return how many answers there are so far."""
        return len(self._asked)

    def go_on(self, answers: int, seconds: float = 0.0) -> None:
        """Wait for so many more answers, some of them asked for so much later than now."""
        most, until = self.count + answers, time.time() + seconds

        def is_done() -> bool:
            assert self._error is None, self._error
            return self.count >= most and self._asked[-1] >= until

        eventually(is_done, 600, "answers")

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Note that Redis is away within the block."""
        began = time.time()
        yield
        self._away.append((began, time.time()))

    def judge(self, deployment: Deployment, first: int = 0, end: int | None = None) -> Found:
        """Return how old the answers were, from one of them up to another."""
        commits = commits_of(deployment)
        ages = [
            self._age(commits[CUSTOMERS[self._numbers[n]]], self._versions[n], self._asked[n])
            for n in range(first, self.count if end is None else end)
        ]
        return Found(sorted(ages))

    def _age(self, commits: dict[int, float], version: int, asked: float) -> float:
        unseen = commits.get(version + 1, asked)
        if unseen >= asked:
            return 0.0
        away = (min(asked, end) - max(unseen, begin) for begin, end in self._away)
        return asked - unseen - sum(max(0.0, seconds) for seconds in away)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._read_all())
        except BaseException as error:  # noqa: BLE001 - whoever waits for answers is told
            self._error = error

    async def _read_all(self) -> None:
        async with AsyncGatekeeper(self._settings) as gatekeeper, asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(self._read(gatekeeper))

    async def _read(self, gatekeeper: AsyncGatekeeper) -> None:
        while not self._ending:
            number = self._random.randrange(len(CUSTOMERS))
            asked = time.time()
            try:
                answer = await gatekeeper.by_customer(CUSTOMERS[number])
            except Unreadable:
                self.unanswered += 1
                continue
            self._numbers.append(number)
            self._versions.append(answer.version)
            self._asked.append(asked)
            self.cached += answer.source == "cache"


def commits_of(deployment: Deployment) -> dict[str, dict[int, float]]:
    """Return when each version of each customer was committed, as a Unix time."""
    commits: dict[str, dict[int, float]] = defaultdict(dict)
    statement = "SELECT customer_id, version, committed_at FROM noted_commits"
    for customer, version, committed_at in deployment.query(statement):
        commits[customer][version] = committed_at
    return commits
