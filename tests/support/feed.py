"""Events in Kafka as ingest writes them, without HTTP: for volume."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from random import Random

from confluent_kafka import Producer

from ops.delivery import enclose
from ops.simulator.history import History, World
from ops.simulator.life import Event
from schemas.envelope import to_headers, to_key
from support.load import END
from support.pipeline import SECRET, Pipeline

CUSTOMERS_AT_ONCE = 20


class Feed:
    """A producer on a deployment's topic; `publish` returns when all is acknowledged."""

    def __init__(self, pipeline: Pipeline, **config: str | int) -> None:
        self._topic = pipeline.variables["HOOKLINE_KAFKA_TOPIC"]
        self.producer = Producer(
            {
                "bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"],
                "linger.ms": 5,
                "acks": "all",
                "compression.type": "zstd",
                "partitioner": "murmur2_random",
                **config,
            }
        )

    def publish(self, events: Iterable[Event]) -> int:
        """Write events and return how many; blocks until the broker has them all."""
        acknowledged: list[object] = []
        for event in events:
            self.produce(event, acknowledged)
        self.flush()
        assert set(acknowledged) <= {None}
        return len(acknowledged)

    def produce(self, event: Event, acknowledged: list[object] | None = None) -> None:
        """Write one event; its error or None goes into the list when the broker has answered."""
        envelope = enclose(event, SECRET)
        while True:
            try:
                self.producer.produce(
                    self._topic,
                    value=event.body,
                    key=to_key(envelope),
                    headers=list(to_headers(envelope)),
                    on_delivery=lambda error, _: (
                        None if acknowledged is None else acknowledged.append(error)
                    ),
                )
            except BufferError:
                self.producer.poll(0.1)
            else:
                break
        self.producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has everything."""
        assert self.producer.flush(120) == 0


class Stream:
    """Customers without end, group by group, each group's events shuffled; remembers them."""

    def __init__(self, seed: str, end: int = END, customers: int = CUSTOMERS_AT_ONCE) -> None:
        self.known: list[History] = []
        self.taken = 0
        self._customers = customers
        self._random = Random(f"{seed}:stream")  # noqa: S311 - the same order each time
        self._histories = self._endless(World(seed, end))
        self._waiting: list[Event] = []

    def take(self, count: int) -> Iterator[Event]:
        """Yield the next events."""
        for _ in range(count):
            if not self._waiting:
                self._begin_group()
            self.taken += 1
            yield self._waiting.pop()

    def rest(self) -> Iterator[Event]:
        """Yield what is left of the customers that have begun."""
        yield from self.take(len(self._waiting))

    def _begin_group(self) -> None:
        group = list(islice(self._histories, self._customers))
        self.known += group
        self._waiting = [event for history in group for event in history.events]
        self._random.shuffle(self._waiting)

    @staticmethod
    def _endless(world: World) -> Iterator[History]:
        number = 0
        while True:
            yield world.history(number)
            number += 1


@contextmanager
def feeding(feed: Feed, stream: Stream, rate: float) -> Iterator[None]:
    """Write so many events a second from a thread; whole customers by the end."""
    ending = threading.Event()

    def run() -> None:
        began, written = time.monotonic(), 0
        while not ending.wait(0.05):
            due = int((time.monotonic() - began) * rate) - written
            written += feed.publish(stream.take(due))
        feed.publish(stream.rest())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def pace(events: Iterable[Event], rate: float) -> Iterator[Event]:
    """Yield so many events a second."""
    began = time.monotonic()
    for number, event in enumerate(events):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield event
