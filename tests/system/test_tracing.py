"""One trace from the request to the batch: in the record, in the logs, and as spans."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx2 as httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from schemas.signature import sign
from support.pipeline import SECRET, Pipeline, log_of, recorded
from support.polling import eventually
from support.stripe import body, event, subscription

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Receive spans over OTLP; yields the endpoint, and the spans with their service's name."""
    spans: list[tuple[str, Any]] = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            raw = self.rfile.read(length)
            if self.headers.get("content-encoding") == "gzip":
                import gzip  # noqa: PLC0415 - only if the exporter is told to

                raw = gzip.decompress(raw)
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    spans.extend((names["service.name"], span) for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collect)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def post(pipeline: Pipeline, document: dict[str, Any]) -> None:
    """Send a signed event in a trace, as a proxy in front would."""
    content = body(document)
    headers = {
        "stripe-signature": sign(content, SECRET, int(time.time())),
        "traceparent": f"00-{TRACE}-{PARENT}-01",
    }
    url = pipeline.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"
    assert httpx.post(url, content=content, headers=headers, timeout=20).is_success


def lines(pipeline: Pipeline, process: str, name: str) -> list[dict[str, Any]]:
    """Return the lines of a process's log that tell of this."""
    found = map(json.loads, log_of(pipeline, process).splitlines())
    return [line for line in found if line["event"] == name]


def test_a_trace_is_followed_from_the_door_to_the_row(pipeline: Pipeline) -> None:
    """The proxy's trace stands in both logs and in the spans; what is refused is told in full."""
    with collector() as (endpoint, spans):
        other = {
            "HOOKLINE_TRACING": "true",
            "HOOKLINE_LOG_LEVEL": "debug",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }
        traced = Pipeline(pipeline.folder, {**pipeline.variables, **other})
        traced.start("ingest", "consumer-1")
        try:
            good = event("customer.subscription.created", subscription())
            bad = event("customer.subscription.created", subscription(id="sub_2")) | {
                "created": "?"
            }
            for document in (good, bad):
                post(traced, document)
            traced.execute("SELECT 1")
            eventually(lambda: recorded(traced) == 1, what="applying the event")
            eventually(
                lambda: bool(traced.query("SELECT 1 FROM dead_letters")), what="setting aside"
            )
        finally:
            traced.stop()

    (accepted, _) = lines(traced, "ingest", "accepted")
    (applied,) = lines(traced, "consumer-1", "event")
    told = {"event_id": good["id"], "type": good["type"], "customer": "cus_1", "trace_id": TRACE}
    for line in (accepted, applied):
        assert told.items() <= line.items()
    assert (accepted["partition"], accepted["offset"]) == (applied["partition"], applied["offset"])
    assert applied["outcome"] == "applied"
    (aside,) = lines(traced, "consumer-1", "set_aside")
    assert (aside["reason"], aside["trace_id"], aside["level"]) == ("undecodable", TRACE, "warning")
    assert {"partition", "offset"} <= aside.keys()
    assert all(line["seconds"] >= 0 for line in lines(traced, "consumer-1", "batch_applied"))

    requests = [span for service, span in spans if service == "hookline-ingest"]
    batches = [span for service, span in spans if service == "hookline-consumer"]
    assert [span.trace_id.hex() for span in requests] == [TRACE, TRACE]
    assert {span.parent_span_id.hex() for span in requests} == {PARENT}
    linked = {(link.trace_id.hex(), link.span_id.hex()) for span in batches for link in span.links}
    assert linked == {(TRACE, span.span_id.hex()) for span in requests}
    assert SECRET not in str(spans)
    assert "sub_1" not in str(spans)


def test_without_spans_the_trace_travels_all_the_same(pipeline: Pipeline) -> None:
    """At the usual level a batch is one line on the log, and a refusal names its trace."""
    pipeline.start("ingest", "consumer-1")
    bad = event("customer.subscription.created", subscription()) | {"created": "?"}
    post(pipeline, bad)
    eventually(lambda: bool(pipeline.query("SELECT 1 FROM dead_letters")), what="setting aside")
    eventually(lambda: bool(lines(pipeline, "consumer-1", "batch_applied")), what="the line")
    (aside,) = lines(pipeline, "consumer-1", "set_aside")
    assert aside["trace_id"] == TRACE
    assert lines(pipeline, "consumer-1", "event") == lines(pipeline, "ingest", "accepted") == []
    (batch,) = lines(pipeline, "consumer-1", "batch_applied")
    assert (batch["events"], batch["dead_letters"]) == (0, 1)
