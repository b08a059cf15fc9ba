"""Spans by OpenTelemetry, for whoever installs the extra and switches them on.

Where they go, and which of them, is said by OpenTelemetry's own OTEL_ variables. Attributes are
what a log line may hold; exceptions are told by their type alone, as their text may quote a row.
https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ops.usage import UsageError
from schemas.settings import TracingSettings
from schemas.trace import Span, Spans, Trace, read_trace

if TYPE_CHECKING:
    from opentelemetry import trace as otel
    from opentelemetry.sdk.trace import TracerProvider

NAMES = {
    "status": "http.response.status_code",
    "records": "messaging.batch.message_count",
    "topic": "messaging.destination.name",
}
"""What OpenTelemetry calls our facts; the others are `hookline.` and our own name."""


@contextmanager
def open_spans(settings: TracingSettings, process: str) -> Iterator[Spans | None]:
    """Provide spans while the context is open, None where they are not wanted.

    What is not sent yet is sent at the end, for at most some seconds. Raises UsageError without
    the extra.
    """
    if not settings.tracing:
        yield None
        return
    provider = _make_provider(process)
    try:
        yield RecordedSpans(provider)
    finally:
        provider.shutdown()


def _make_provider(process: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import (  # noqa: PLC0415 - same
            OTELResourceDetector,
            Resource,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - same
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - same
    except ImportError:
        raise UsageError(
            "HOOKLINE_TRACING=true needs OpenTelemetry: install the extra, `hookline[tracing]`"
        ) from None
    named = {"service.name": f"hookline-{process}", "service.version": version("hookline")}
    # What a person says in OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES counts more.
    resource = Resource.create(named).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class RecordedSpans:
    """Spans that a provider records."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("hookline", version("hookline"))

    @contextmanager
    def request(self, header: bytes | None) -> Iterator[Span]:
        """Go on in the trace of a request, or begin one."""
        from opentelemetry import trace as otel  # noqa: PLC0415 - an extra

        parent = read_trace(header)
        context = None
        if parent is not None:
            context = otel.set_span_in_context(otel.NonRecordingSpan(_context_of(parent)))
        with self._span("POST /webhooks/stripe", otel.SpanKind.SERVER, context=context) as span:
            yield span

    @contextmanager
    def batch(self, topic: str, headers: Iterable[bytes | None]) -> Iterator[Span]:
        """Begin a trace that is linked to those of its records."""
        from opentelemetry import trace as otel  # noqa: PLC0415 - an extra

        traces = [found for header in headers if (found := read_trace(header)) is not None]
        links = [otel.Link(_context_of(one)) for one in traces]
        with self._span(f"process {topic}", otel.SpanKind.CONSUMER, links=links) as span:
            span.note(topic=topic)
            yield span

    @contextmanager
    def _span(self, name: str, kind: otel.SpanKind, **more: Any) -> Iterator[RecordedSpan]:
        from opentelemetry import trace as otel  # noqa: PLC0415 - an extra

        span = self._tracer.start_span(name, kind=kind, **more)
        try:
            yield RecordedSpan(span)
        except BaseException as error:
            span.set_status(otel.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()


class RecordedSpan:
    """One span."""

    def __init__(self, span: otel.Span) -> None:
        self._span = span
        found = span.get_span_context()
        self.trace = Trace(
            f"{found.trace_id:032x}", f"{found.span_id:016x}", f"{found.trace_flags:02x}"
        )

    def note(self, **facts: Any) -> None:
        """Note facts as attributes; an answer from 500 on makes it a failure."""
        from opentelemetry import trace as otel  # noqa: PLC0415 - an extra

        self._span.set_attributes({NAMES.get(k, f"hookline.{k}"): v for k, v in facts.items()})
        if facts.get("status", 0) >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._span.set_status(otel.StatusCode.ERROR, str(facts.get("reason", "")))


def _context_of(trace: Trace) -> otel.SpanContext:
    from opentelemetry import trace as otel  # noqa: PLC0415 - an extra

    return otel.SpanContext(
        int(trace.trace_id, 16),
        int(trace.span_id, 16),
        is_remote=True,
        trace_flags=otel.TraceFlags(int(trace.flags, 16)),
    )
