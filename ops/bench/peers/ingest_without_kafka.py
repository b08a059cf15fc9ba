"""hookline's ingest with a publisher that says at once that the broker has it: all but Kafka."""

import asyncio
import sys

import uvloop
from prometheus_client import CollectorRegistry

from ingest.protocol import limit_protocol
from ingest.publisher import Receipt
from ingest.webhook import Webhook
from ops.bench.traffic import SECRET
from ops.embedded.ports import HOST
from ops.logs import configure
from ops.servers import listen, serve
from schemas.envelope import Envelope, to_headers, to_key
from schemas.metrics import IngestMetrics
from schemas.readiness import Readiness


class Nowhere:
    """Publishes nothing; does what is done to a record before it is handed to the client."""

    async def publish(self, envelope: Envelope) -> Receipt:
        """Return at once."""
        to_key(envelope)
        to_headers(envelope)
        return Receipt("nowhere", 0, 0)


def main(port: int) -> None:
    """Serve until SIGTERM."""
    configure("info", "ingest")
    metrics, readiness = IngestMetrics(CollectorRegistry()), Readiness()
    webhook = Webhook(
        publisher=Nowhere(),
        secrets=lambda: (SECRET,),
        livemode=False,
        readiness=readiness,
        metrics=metrics,
    )
    listener = listen(HOST, port, "the port of the command line")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(webhook, listener, readiness, protocol=limit_protocol(metrics)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
