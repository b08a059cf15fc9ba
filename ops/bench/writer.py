"""Records into Kafka as ingest writes them, without HTTP: for volume and for a fixed pace."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, Message, Producer

from ops.bench.traffic import Outgoing, received_now
from ops.invariants.event_log import AwayError

FLUSH_SECONDS = 120.0
FULL_SECONDS = 0.01
TICK_SECONDS = 0.002
SETTINGS: dict[str, str | int] = {
    "linger.ms": 5,
    "acks": "all",
    "compression.type": "zstd",
    "partitioner": "murmur2_random",
}
"""Those of ingest."""


class Writer:
    """A producer on one topic; `flush` returns when everything is acknowledged."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": bootstrap, **SETTINGS})
        self._errors: list[KafkaError] = []

    def write(self, record: Outgoing) -> None:
        """Queue a record; blocks while the queue is full."""
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value=record.body,
                    key=record.key,
                    headers=list(record.headers),
                    on_delivery=self._note,
                )
            except BufferError:
                self._producer.poll(FULL_SECONDS)
            else:
                break
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has everything; raises AwayError if it does not take it."""
        if self._producer.flush(FLUSH_SECONDS) or self._errors:
            why = self._errors[0].str() if self._errors else "no answer"
            raise AwayError(f"Kafka did not take all records: {why}")

    def _note(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._errors.append(error)


def write_at(writer: Writer, records: Iterable[Outgoing], rate: float) -> float:
    """Write so many records a second, each stamped as received when it is due.

    Returns the rate that was reached; blocks. A record that is late keeps the time at which it
    was due, so that a writer that falls behind cannot make delays look shorter.
    """
    began = time.monotonic()
    written = 0
    for number, record in enumerate(records):
        while (wait := began + number / rate - time.monotonic()) > 0:
            time.sleep(min(wait, TICK_SECONDS))
        writer.write(received_now(record, late=-wait))
        written += 1
    return written / (time.monotonic() - began)


def write_ahead(
    writer: Writer, records: Iterable[Outgoing], applied: Callable[[], int], ahead: int
) -> None:
    """Write while there are at most so many records that are not applied; blocks."""
    done = 0
    for number, record in enumerate(records):
        while number - done >= ahead:
            done = applied()
            if number - done >= ahead:
                time.sleep(TICK_SECONDS)
        writer.write(received_now(record))
