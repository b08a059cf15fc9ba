"""One run from one seed: traffic and faults, then calm, then what is true."""

import logging
import random
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import structlog

from consumer.loop import Loop
from support.simulation.checks import is_drained, problems
from support.simulation.process import Servers, build
from support.simulation.traffic import Delivery, customers, deliveries, signed
from support.simulation.weather import Weather
from support.simulation.world import Process, World
from support.twins.broker import MemoryConsumer
from support.twins.rows import Row

PARTITIONS = 3
CUSTOMERS = 3
SECONDS_BETWEEN_RECORDS = 0.3
STRAYS = 0.15
"""Records in another partition than their customer's, as after the number of partitions grew."""

MARKERS = 0.02
"""Offsets without a record behind them."""

REST_SECONDS = 300.0
"""How long draining may take at most: session timeout, backoff and housekeeping are in it."""

SESSION_SECONDS = 45.0
RESTART_SECONDS = 3.0
REFUSED = (0.0, 0.0, 0.03)
"""Share of the events that PostgreSQL refuses until the traffic is over; then they come again."""


@dataclass
class Outcome:
    """What a run came to."""

    problems: list[str]
    seen: Counter[str]
    story: list[str]
    counts: Counter[str] = field(default_factory=Counter)


def look_at(seed: str) -> Outcome:
    """Run one seed, with the log switched off for good in this process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return Run(seed).run()


class Run:
    """Two to four consumers, a few customers, one seed."""

    def __init__(self, seed: str) -> None:
        self._world = World(seed)
        # The jitter of the product's own pauses.
        random.seed(seed)
        chance = self._world.random
        self._servers = Servers(self._world, PARTITIONS)
        self._weather = Weather(self._world, self._servers)
        self._known = customers(chance, CUSTOMERS)
        self._waiting = list(deliveries(chance, self._known))[::-1]
        self._refused = self._choose_refused()
        self._servers.database.refuses = self._refuses
        self._sent: dict[tuple[int, int], Delivery] = {}
        self._loops: dict[Process, Loop] = {}
        self._ended: list[str] = []
        self._is_over = False
        self._numbers = 0
        self._consumers = chance.randint(2, 4)

    def run(self) -> Outcome:
        """Run to the end."""
        world = self._world
        for _ in range(self._consumers):
            self._start()
        self._produce()
        while self._waiting and not self._ended:
            self._step()
        self._weather.calm()
        world.calm()
        self._drain()
        self._weather.set_back_at_rest()
        self._drain()
        self._deliver_refused_again()
        self._drain()
        self._stop()
        found = self._ended or list(problems(self._servers, self._known, self._sent))
        counts = Counter(records=len(self._sent), processes=self._numbers)
        return Outcome(found, world.seen, list(world.trace), counts)

    def _drain(self) -> None:
        until = self._world.clock + REST_SECONDS
        while not is_drained(self._servers) and self._world.clock < until and not self._ended:
            self._step()
        if not is_drained(self._servers):
            left = self._servers.database.rows("cache_invalidations")
            self._ended.append(f"not drained after {REST_SECONDS} s; entries to drop: {left}")

    def _stop(self) -> None:
        """Let every consumer leave in order."""
        self._is_over = True
        for process, loop in self._loops.items():
            if not process.is_dead:
                loop.stop()
        until = self._world.clock + REST_SECONDS
        while self._world.processes and self._world.clock < until:
            self._world.step()
        if self._world.processes:
            self._ended.append("a consumer does not stop")

    def _choose_refused(self) -> set[str]:
        share = self._world.random.choice(REFUSED)
        ids = [event.id for history in self._known for event in history.events]
        return {id_ for id_ in ids if self._world.random.random() < share}

    def _refuses(self, table: str, row: Row) -> bool:
        """Refuse some events whatever they write, but for the fact that they failed."""
        return (
            table in {"webhook_events", "billing_audit"}
            and row["event_id"] in self._refused
            and row.get("outcome") != "failed"
        )

    def _deliver_refused_again(self) -> None:
        """As somebody does who has found out why, and has dead letters replayed."""
        refused, self._refused = self._refused, set()
        for history in self._known:
            for event in history.events:
                if event.id in refused:
                    self._world.note("event refused, then delivered again")
                    self._append(signed(history.truth.customer_id, event))

    def _step(self) -> None:
        self._world.step()
        self._put_out_the_silent()
        missing = self._consumers - len(self._world.processes)
        for _ in range(missing):
            self._start()

    def _start(self) -> None:
        self._numbers += 1
        # It is there at once, and begins to work a little later.
        process = self._world.start(f"c{self._numbers}", lambda: self._consume(process))
        process.wake_at += self._world.random.random() * RESTART_SECONDS

    def _consume(self, process: Process) -> None:
        loop = self._loops[process] = build(self._world, self._servers)
        if self._is_over:
            return
        try:
            loop.run()
        except Exception as error:  # noqa: BLE001 - whatever ends a consumer is a finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._ended.append(f"{process.name}: {error!r} in {where.name}, line {where.lineno}")

    def _put_out_the_silent(self) -> None:
        """Let the group go on without those who are dead or stand still for too long."""
        world, broker = self._world, self._servers.broker
        for process, loop in list(self._loops.items()):
            # The group knows its members by their clients.
            client = cast(MemoryConsumer, loop._consumer)  # noqa: SLF001
            since = process.still_since
            is_silent = since is not None and world.clock - since > SESSION_SECONDS
            if process.is_dead:
                del self._loops[process]
                seconds = world.random.choice((0.0, SESSION_SECONDS))
                world.at(seconds, partial(broker.leave, client))
            elif is_silent and client in broker.members:
                broker.leave(client)

    def _produce(self) -> None:
        """Write the next record, and plan the one after it."""
        chance = self._world.random
        if not self._waiting:
            return
        for _ in range(chance.choice((1, 1, 1, 5))):
            if self._waiting:
                self._append(self._waiting.pop())
        self._world.at(chance.random() * 2 * SECONDS_BETWEEN_RECORDS, self._produce)

    def _append(self, delivery: Delivery) -> None:
        chance, broker = self._world.random, self._servers.broker
        partition = sum(delivery.key) % PARTITIONS
        if chance.random() < STRAYS:
            partition = chance.randrange(PARTITIONS)
        offset = broker.append(partition, delivery.body, delivery.key, delivery.headers)
        self._sent[partition, offset] = delivery
        if chance.random() < MARKERS:
            broker.append_gap(partition)
