"""The loop of the tutorials: poll one message, handle it, commit its offset, poll again."""

import os

from confluent_kafka import Consumer

from consumer.kafka import to_record
from ops.bench.peers.handler import Handler

POLL_SECONDS = 1.0


def main() -> None:
    """Consume until the process is ended."""
    handler = Handler()
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["HOOKLINE_KAFKA_BOOTSTRAP"],
            "group.id": os.environ["HOOKLINE_KAFKA_GROUP"],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # librdkafka's own default costs two thirds of any rate.
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.subscribe([os.environ["HOOKLINE_KAFKA_TOPIC"]])
    while True:
        message = consumer.poll(POLL_SECONDS)
        if message is None or message.error() is not None:
            continue
        handler.handle(to_record(message))
        consumer.commit(message=message, asynchronous=False)


if __name__ == "__main__":
    main()
