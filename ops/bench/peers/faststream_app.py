"""FastStream with the one-event handler, and with its batch mode: `faststream_app [batch]`."""

import asyncio
import os
import sys
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from ops.bench.peers.handler import Handler
from ops.bench.peers.raw import record_of

BATCH = 500


def build(*, in_batches: bool) -> FastStream:
    """Return the app; each message, or each batch, is acknowledged when it is handled."""
    handler = Handler()
    broker = KafkaBroker(os.environ["HOOKLINE_KAFKA_BOOTSTRAP"])
    subscriber: Any = broker.subscriber(
        os.environ["HOOKLINE_KAFKA_TOPIC"],
        group_id=os.environ["HOOKLINE_KAFKA_GROUP"],
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        decoder=lambda message: message.body,
        **({"batch": True, "max_records": BATCH} if in_batches else {}),
    )

    async def handle(_body: Any, message: KafkaMessage) -> None:
        raw = message.raw_message
        messages = raw if isinstance(raw, tuple | list) else [raw]
        handler.handle_all([record_of(one) for one in messages])

    subscriber(handle)
    return FastStream(broker)


if __name__ == "__main__":
    asyncio.run(build(in_batches=sys.argv[1:] == ["batch"]).run())
