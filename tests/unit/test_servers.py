"""The admin port: alive, ready by name, metrics from the catalogue."""

import socket

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from ops.servers import PortError, build_app, listen
from schemas.labels import RequestReason, Status
from schemas.metrics import ConsumerMetrics, GatekeeperMetrics, IngestMetrics, type_label
from schemas.readiness import Readiness


def test_ready_names_each_dependency() -> None:
    """One dependency that is away makes the process not ready, and is named with why."""
    readiness = Readiness()
    problem: list[str | None] = [None]
    readiness.add("kafka", lambda: problem[0])
    readiness.add("postgresql", lambda: None)
    client = TestClient(build_app(CollectorRegistry(), readiness))
    assert client.get("/readyz").status_code == 200
    problem[0] = "does not answer"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "draining": False,
        "checks": {"kafka": "does not answer", "postgresql": "ok"},
    }
    assert client.get("/healthz").json() == {"status": "alive"}


def test_an_optional_dependency_is_shown_and_does_not_decide() -> None:
    """A consumer works on without Redis, and says that it does."""
    readiness = Readiness()
    readiness.add("redis", lambda: "left alone", optional=True)
    ready, document = readiness.report()
    assert ready
    assert document["checks"] == {"redis": "left alone"}


def test_a_draining_process_is_not_ready() -> None:
    """A load balancer learns that no new work is wanted."""
    readiness = Readiness()
    readiness.drain()
    answer = TestClient(build_app(CollectorRegistry(), readiness)).get("/readyz")
    assert (answer.status_code, answer.json()["draining"]) == (503, True)


def test_metrics_are_served_as_prometheus_reads_them() -> None:
    """The page holds what was counted."""
    registry = CollectorRegistry()
    IngestMetrics(registry).requests.labels(Status.OK, RequestReason.ACCEPTED).inc(3)
    page = TestClient(build_app(registry, Readiness())).get("/metrics")
    line = 'hookline_ingest_requests_total{answer="200",reason="accepted"} 3.0'
    assert line in page.text.splitlines()


def test_a_taken_port_names_its_setting() -> None:
    """The person learns which variable moves it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortError, match=rf"{port}.*HOOKLINE_INGEST_PORT"):
            listen("127.0.0.1", port, "HOOKLINE_INGEST_PORT")


@pytest.mark.parametrize("catalogue", [IngestMetrics, ConsumerMetrics, GatekeeperMetrics])
def test_metric_names_and_labels(catalogue: type[IngestMetrics]) -> None:
    """Names carry their unit, help is a sentence, no label is a customer's or an event's."""
    registry = CollectorRegistry()
    catalogue(registry)
    for metric in registry.collect():
        assert metric.name.startswith("hookline_")
        assert metric.documentation.endswith(".")
        if metric.type == "histogram":
            assert metric.name.endswith(("_seconds", "_records"))
    for collector in registry._collector_to_names:  # noqa: SLF001 - labels of metrics not used yet
        assert not {"customer", "event", "event_id", "subscription"} & set(
            getattr(collector, "_labelnames", ())
        )


def test_event_types_as_labels_are_few() -> None:
    """A type that Stripe invents tomorrow does not become a new series."""
    assert type_label("invoice.paid") == "invoice.paid"
    assert type_label("something.invented") == "other"
