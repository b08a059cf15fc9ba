"""Events into Kafka as ingest writes them, signed by us: for one caller, until acknowledged."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from confluent_kafka import KafkaException, Producer

from consumer.errors import Cause, Retry
from ingest.publisher import producer_config
from ops.reconcile.finding import Missing
from schemas.access import Refusals
from schemas.envelope import Envelope, to_headers, to_key
from schemas.settings import ReconcileSettings
from schemas.signature import sign

SOURCE = "reconcile"
ACK_SECONDS = 30.0
POLL_SECONDS = 0.1


class Sender:
    """A producer; made when there is something to send."""

    def __init__(self, settings: ReconcileSettings) -> None:
        self._refusals = Refusals()
        self._producer = Producer(
            producer_config(settings)
            | {"client.id": "hookline-reconcile", "error_cb": self._refusals.note}
        )
        self._topic = settings.kafka_topic
        # The first: records are checked against all, and the first is the one that stays longest.
        self._secret = settings.webhook_secrets[0].get_secret_value()
        self._livemode = settings.livemode == "live"

    def send(self, events: Sequence[Missing]) -> None:
        """Write events and return when the broker has acknowledged all of them; raises Retry.

        Some may stand in the log by then; to send them again does no harm.
        """
        failed: list[str] = []
        for one in events:
            self._produce(one, failed)
        left = self._producer.flush(ACK_SECONDS)
        if failed or left:
            why = self._refusals.why or (failed[0] if failed else "it does not answer")
            raise Retry(Cause.KAFKA, f"Kafka has not acknowledged all of the events: {why}")

    def _produce(self, one: Missing, failed: list[str]) -> None:
        envelope = self._wrap(one)
        try:
            self._producer.produce(
                self._topic,
                value=envelope.body,
                key=to_key(envelope),
                headers=list(to_headers(envelope)),
                on_delivery=lambda error, _: failed.append(error.str()) if error else None,
            )
        except (BufferError, KafkaException) as error:
            failed.append(str(error))
        self._producer.poll(0)

    def _wrap(self, one: Missing) -> Envelope:
        now = time.time()
        return Envelope(
            key=one.route.key,
            body=one.body,
            event_id=one.route.id,
            type=one.route.type,
            created=datetime.fromtimestamp(one.created, UTC),
            livemode=self._livemode,
            received_at=datetime.fromtimestamp(now, UTC),
            signature=sign(one.body, self._secret, int(now)).encode(),
            source=SOURCE,
        )
