"""Ingest against callers of every kind: what it takes, refuses, and how long it waits."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.signature import sign
from support.pipeline import SECRET, Pipeline, counted
from support.polling import eventually
from support.raw_http import RawAnswer, connect, read_answer, request, talk
from support.served import port_of, serving, signed
from support.servers import Servers
from support.stripe import body, event, subscription

CAP = 512 * 1024


@pytest.fixture(scope="module")
def ingest(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Provide one ingest for the whole file, on a topic of its own."""
    with serving(servers, tmp_path_factory.mktemp("ingest")) as pipeline:
        yield pipeline


def padded(size: int) -> bytes:
    """Return an event of exactly so many bytes."""
    document = event("invoice.paid", {"object": "invoice", "filler": ""})
    missing = size - len(body(document))
    document["data"]["object"]["filler"] = "x" * missing
    return body(document)


def error_of(answer: RawAnswer) -> object:
    """Return the error code of an answer."""
    return json.loads(answer.body)["error"]


def test_the_record_is_the_signed_body_byte_for_byte(ingest: Pipeline) -> None:
    """What stands at the answered offset is what Stripe signed, keyed by customer."""
    content = b'{ "id" : "evt_bytes",\r\n "type":"x", "created":1700000000, "livemode":false,\n'
    content += '"data":{"object":{"customer":{"id":"cus_ü"}}} }'.encode()
    stamp = sign(content, SECRET, int(time.time()))
    url = ingest.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"
    answer = httpx.post(url, content=content, headers={"stripe-signature": stamp}).json()
    assert answer["status"] == "accepted"
    assert answer["event"] == "evt_bytes"
    consumer = Consumer(
        {"bootstrap.servers": ingest.variables["HOOKLINE_KAFKA_BOOTSTRAP"], "group.id": "check"}
    )
    place = TopicPartition(answer["topic"], answer["partition"], answer["offset"])
    consumer.assign([place])
    (message,) = consumer.consume(1, 20)
    consumer.close()
    assert message.value() == content
    assert message.key() == "cus_ü".encode()
    headers = dict(message.headers() or [])
    assert headers["hookline_signature"] == stamp.encode()
    expected = {
        "ce_id": b"evt_bytes",
        "ce_type": b"x",
        "ce_source": b"/stripe/test",
        "ce_time": b"2023-11-14T22:13:20.000000Z",
        "ce_specversion": b"1.0",
        "content-type": b"application/json",
    }
    assert {name: headers[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("path", "method", "status", "error"),
    [
        ("/", "POST", 404, "not_found"),
        ("/webhooks/stripe/", "POST", 404, "not_found"),
        ("/metrics", "GET", 404, "not_found"),
        ("/webhooks/stripe", "GET", 405, "method_not_allowed"),
        ("/webhooks/stripe", "PUT", 405, "method_not_allowed"),
    ],
)
def test_path_and_method(ingest: Pipeline, path: str, method: str, status: int, error: str) -> None:
    """Anything but the one route is refused; metrics do not stand on this port."""
    answer = talk(port_of(ingest), request(b"{}", path=path, method=method))
    assert (answer.status, error_of(answer)) == (status, error)
    assert b"connection: close" in answer.head
    assert (b"allow: post" in answer.head) == (status == httpx.codes.METHOD_NOT_ALLOWED)


@pytest.mark.parametrize(("size", "status"), [(CAP - 1, 200), (CAP, 200), (CAP + 1, 413)])
def test_the_body_limit_is_exact(ingest: Pipeline, size: int, status: int) -> None:
    """The largest body allowed is accepted, one byte more is not."""
    assert talk(port_of(ingest), signed(padded(size))).status == status


def test_a_chunked_body_is_counted_while_it_comes(ingest: Pipeline) -> None:
    """Without a declared length the limit holds as well."""
    head = request(b"", content_length="", transfer_encoding="chunked")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = talk(port_of(ingest), head, *[chunk] * 12)
    assert (answer.status, error_of(answer)) == (413, "payload_too_large")


def test_a_body_in_one_byte_chunks_is_read(ingest: Pipeline) -> None:
    """However it is cut on the way, the same bytes verify."""
    content = body(event("invoice.paid", {"object": "invoice"}))
    stamp = sign(content, SECRET, int(time.time()))
    head = request(b"", content_length="", transfer_encoding="chunked", stripe_signature=stamp)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n"
    assert talk(port_of(ingest), head, chunks).status == 200


def test_an_encoded_body_is_never_inflated(ingest: Pipeline) -> None:
    """A small body may not become a large one in here."""
    answer = talk(port_of(ingest), signed(b"{}", content_encoding="gzip"))
    assert (answer.status, error_of(answer)) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "extra",
    [{"x_long": "y" * 17_000}, {f"x_{n}": "y" for n in range(65)}],
    ids=["bytes", "count"],
)
def test_large_headers_are_refused(ingest: Pipeline, extra: dict[str, str]) -> None:
    """Headers over 16 KiB, or over 64 of them: 431 and close."""
    answer = talk(port_of(ingest), request(b"{}", **extra))
    assert (answer.status, error_of(answer)) == (431, "header_too_large")


def test_headers_without_an_end_are_cut_off(ingest: Pipeline) -> None:
    """A header block that never ends is not collected."""
    answer = talk(port_of(ingest), b"POST / HTTP/1.1\r\nx: ", b"y" * 40_000)
    assert answer.status in {400, 431}
    assert answer.closed or b"connection: close" in answer.head


@pytest.mark.parametrize("first", [b"", b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\n"])
def test_slow_headers_are_not_waited_for(ingest: Pipeline, first: bytes) -> None:
    """A connection that does not say what it wants within 5 s is closed without an answer."""
    answer = talk(port_of(ingest), first)
    assert (answer.status, answer.closed) == (0, True)


def test_a_slow_second_request_is_not_waited_for_either(ingest: Pipeline) -> None:
    """The deadline holds for every request of a connection."""
    good = signed(body(event("invoice.paid", {"object": "invoice"})))
    with connect(port_of(ingest)) as connection:
        connection.sendall(good)
        assert read_answer(connection).status == 200
        connection.sendall(b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\n")
        assert read_answer(connection) == RawAnswer(0, b"", b"", closed=True)


def test_a_slow_body_is_not_waited_for(ingest: Pipeline) -> None:
    """A body that does not come within 10 s: 408 and close."""
    head = request(b"", content_length="100")
    answer = talk(port_of(ingest), head + b"{")
    assert (answer.status, error_of(answer)) == (408, "too_slow")
    assert b"connection: close" in answer.head


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"id":5}',
        b'{"id":""}',
        b'{"id":"evt_1","x":NaN}',
        b'{"id":"evt_1","x":Infinity}',
        b'{"id":"evt_1","x":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"id":"evt_1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id":"evt_1","x":' + b"9" * 5000 + b"}",
        b'{"id":"evt_1"',
        b'{"id":"\xff"}',
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(ingest: Pipeline, content: bytes) -> None:
    """Signed or not, what is no JSON object with an id is 400 and never a 5xx."""
    answer = talk(port_of(ingest), signed(content))
    assert (answer.status, error_of(answer)) == (400, "invalid_payload")


@pytest.mark.parametrize(
    "content",
    [
        b'{"id":"evt_odd"}',
        b'{"id":"evt_a","id":"evt_b"}',
        b'{"id":"\\ud800"}',
        b'{"id":"\\u0000"}',
        b'{"id":"evt_odd","created":"x","type":5,"livemode":"no","data":[]}',
        b'{"id":"' + b"x" * 300_000 + b'"}',
    ],
)
def test_a_signed_event_of_odd_shape_is_accepted(ingest: Pipeline, content: bytes) -> None:
    """Refusing it would make Stripe send it for three days, then drop it for ever."""
    answer = talk(port_of(ingest), signed(content))
    assert (answer.status, json.loads(answer.body)["status"]) == (200, "accepted")


def test_secrets_are_rolled_without_a_refused_request(ingest: Pipeline) -> None:
    """SIGHUP adds the new secret and drops the old one; a broken file changes nothing."""
    path = Path(ingest.variables["HOOKLINE_WEBHOOK_SECRETS_FILE"])
    pid = ingest.members["ingest"].process.pid
    content = body(event("customer.subscription.created", subscription()))

    def status_with(secret: str) -> int:
        """Return the answer to an event signed with a secret."""
        stamp = sign(content, secret, int(time.time()))
        return talk(port_of(ingest), request(content, stripe_signature=stamp)).status

    assert status_with("whsec_new") == 400
    path.write_text(f"whsec_new,{SECRET}")
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: status_with("whsec_new") == 200)
    assert status_with(SECRET) == 200
    path.write_text("")
    os.kill(pid, signal.SIGHUP)
    log = ingest.members["ingest"].process.log
    eventually(lambda: "secrets_not_reloaded" in log.read_text())
    assert status_with("whsec_new") == 200
    path.write_text(SECRET)
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: status_with("whsec_new") == 400)
    assert status_with(SECRET) == 200
    matched = counted(ingest.metrics("ingest"), "hookline_ingest_matched_secrets_total")
    assert set(matched) == {'position="1"', 'position="2"'}


def test_a_stopping_ingest_finishes_what_it_has(
    pipeline: Pipeline,
) -> None:
    """SIGTERM under load: every answer is 200 or 503 or none, each 200 has its record, exit 0."""
    pipeline.start("ingest", "consumer-1")
    documents = [event("invoice.paid", {"object": "invoice"}) for _ in range(400)]
    process = pipeline.members["ingest"].process
    answers = pipeline.post_all(documents[:200])
    os.kill(process.pid, signal.SIGTERM)
    answers += pipeline.post_all(documents[200:])
    assert set(answers) <= {200, 503, 0}
    eventually(lambda: not process.is_alive())
    assert '"event": "stopped"' in process.log.read_text()
    accepted = answers.count(200)
    eventually(lambda: pipeline.query("SELECT count(*) FROM webhook_events")[0][0] >= accepted)
