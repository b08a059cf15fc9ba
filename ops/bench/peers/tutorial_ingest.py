"""Ingest as tutorials write it: the SDK's construct_event, produce, and a flush per request."""

import os
import sys
from datetime import UTC, datetime

import stripe
import uvicorn
from confluent_kafka import Producer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ops.bench.writer import SETTINGS
from ops.embedded.ports import HOST
from schemas.envelope import Envelope, to_headers, to_key
from schemas.stripe_event import decode_route

producer = Producer({"bootstrap.servers": os.environ["HOOKLINE_KAFKA_BOOTSTRAP"], **SETTINGS})
topic = os.environ["HOOKLINE_KAFKA_TOPIC"]
secret = os.environ["HOOKLINE_WEBHOOK_SECRETS"]


async def webhook(request: Request) -> JSONResponse:
    """Verify, produce the record that hookline would, and wait for the broker."""
    body = await request.body()
    signature = request.headers.get("stripe-signature", "")
    try:
        event = stripe.Webhook.construct_event(body, signature, secret)
    except (ValueError, stripe.SignatureVerificationError):
        return JSONResponse({"error": "invalid"}, 400)
    envelope = Envelope(
        key=decode_route(body).key,
        body=body,
        event_id=event.id,
        type=event.type,
        created=datetime.fromtimestamp(event.created, UTC),
        livemode=event.livemode,
        received_at=datetime.now(UTC),
        signature=signature.encode(),
    )
    places: list[tuple[int | None, int | None]] = []
    producer.produce(
        topic,
        value=body,
        key=to_key(envelope),
        headers=list(to_headers(envelope)),
        on_delivery=lambda _error, message: places.append((message.partition(), message.offset())),
    )
    producer.flush()
    partition, offset = places[0]
    return JSONResponse(
        {"status": "accepted", "event": event.id, "partition": partition, "offset": offset}
    )


app = Starlette(routes=[Route("/webhooks/stripe", webhook, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=int(sys.argv[1]), access_log=False, log_level="warning")
