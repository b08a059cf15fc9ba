"""Programs that others wrote, at both ends: Stripe's SDKs sign and send, Kafka's tools read."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import pytest
import stripe
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, Message, TopicPartition

from support.clients import NodeClient, console_consumer
from support.pipeline import SECRET, Pipeline
from support.stripe import T0, body, event, subscription

BODIES = [
    body(event("customer.subscription.created", subscription(), id="evt_1")).decode(),
    '{ "id" : "evt_2",  "type":"x", "name":"Zoë 日本 🚀", "data":{"object":{"customer":"cus_ü"}} }',
]


def url_of(pipeline: Pipeline) -> str:
    """Return where Stripe would send to."""
    return pipeline.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"


def read_back(pipeline: Pipeline, answer: dict[str, object]) -> Message:
    """Return the record that an answer names."""
    consumer = Consumer(
        {"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"], "group.id": "check"}
    )
    place = [answer[name] for name in ("topic", "partition", "offset")]
    consumer.assign([TopicPartition(*place)])  # type: ignore[arg-type]
    (message,) = consumer.consume(1, 30)
    consumer.close()
    return message


def test_stripes_sdk_for_node_signs_and_sends(pipeline: Pipeline) -> None:
    """What the official SDK signs is accepted and stands in Kafka; with another secret, nothing."""
    client = NodeClient(pipeline.folder)
    pipeline.start("ingest")
    answers = client.send(url_of(pipeline), SECRET, BODIES)
    assert [answer["status"] for answer in answers] == [200, 200]
    for content, answer in zip(BODIES, answers, strict=True):
        message = read_back(pipeline, answer["answer"])
        assert message.value() == content.encode()
        headers = dict(message.headers() or [])
        assert headers["hookline_signature"] == answer["header"].encode()
    refused = client.send(url_of(pipeline), "whsec_other", BODIES[:1])
    assert [(each["status"], each["answer"]) for each in refused] == [
        (400, {"error": "invalid_signature"})
    ]


def test_stripes_sdk_for_python_signs(pipeline: Pipeline) -> None:
    """The signing helper of the other official SDK is accepted, now and not of an hour ago."""
    pipeline.start("ingest")
    helper = stripe.WebhookSignature.generate_signature_header
    now = int(time.time())
    for stamp, expected in ((now, 200), (now - 290, 200), (now - 3600, 400), (now + 3600, 400)):
        for content in BODIES:
            header = helper(content, SECRET, stamp)
            sent = httpx.post(
                url_of(pipeline), content=content.encode(), headers={"stripe-signature": header}
            )
            assert sent.status_code == expected


@pytest.fixture
def accepted(pipeline: Pipeline) -> Pipeline:
    """Provide a topic that holds one event, signed and sent."""
    pipeline.start("ingest")
    document = event("customer.subscription.created", subscription(customer="cus_7"), id="evt_7")
    assert pipeline.post(document).status_code == 200
    return pipeline


def test_the_cloudevents_sdk_reads_the_record(accepted: Pipeline) -> None:
    """A record is a CloudEvent in Kafka's binary mode, to the SDK of those who define it."""
    topic = accepted.variables["HOOKLINE_KAFKA_TOPIC"]
    answer = accepted.post(event("invoice.paid", {"customer": "cus_7"}, id="evt_8")).json()
    message = read_back(accepted, answer | {"topic": topic})
    headers: Any = dict(message.headers() or [])
    record = KafkaMessage(
        headers=headers,
        key=message.key(),
        value=message.value() or b"",
    )
    found = from_binary(record, JSONFormat())
    assert found.get_id() == "evt_8"
    assert found.get_type() == "invoice.paid"
    assert found.get_source() == "/stripe/test"
    assert found.get_specversion() == "1.0"
    assert found.get_time() == datetime.fromtimestamp(T0, UTC)
    assert found.get_datacontenttype() == "application/json"
    assert found.get_extension("partitionkey") == "cus_7"
    assert found.get_data() == json.loads(message.value() or b"")


def test_kafkas_console_consumer_reads_the_record(accepted: Pipeline) -> None:
    """The tool that every operator of Kafka has shows headers, key and body as they are."""
    variables = accepted.variables
    ((headers, key, value),) = console_consumer(
        variables["HOOKLINE_KAFKA_BOOTSTRAP"], variables["HOOKLINE_KAFKA_TOPIC"], 1
    )
    assert key == "cus_7"
    assert json.loads(value)["id"] == "evt_7"
    assert "ce_id:evt_7,ce_type:customer.subscription.created," in headers
    assert "hookline_signature:t=" in headers
