"""uvicorn's HTTP protocol with the limits it lacks: header size, count and time, connections."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from schemas.labels import Limit, RequestReason, Status
from schemas.metrics import IngestMetrics

MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 64
HEADER_SECONDS = 5.0
MAX_CONNECTIONS = 4000


def limit_protocol(metrics: IngestMetrics) -> type[HttpToolsProtocol]:
    """Return the protocol class of the webhook port."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"metrics": metrics})


class _LimitedProtocol(HttpToolsProtocol):
    """Refuses what a stranger could hold us up with before a request is complete."""

    metrics: IngestMetrics

    _deadline: asyncio.TimerHandle | None = None
    _refused = False
    _ends = False
    _in_body = False
    _raw_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= MAX_CONNECTIONS:
            self.metrics.refused_connections.labels(Limit.CONNECTIONS).inc()
            self._refused = True
            transport.abort()
            return
        super().connection_made(transport)
        self.metrics.connections.set(len(self.connections))
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._refused:
            return
        super().connection_lost(exc)
        self.metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if self._refused or self._is_ending():
            return
        self._raw_bytes += len(data)
        super().data_received(data)
        # Bytes since the last piece of a body: headers, trailers and chunk extensions are held to
        # one limit, also while an earlier request of the connection waits for its answer.
        if self._raw_bytes > MAX_HEADER_BYTES:
            self._refuse(431, RequestReason.HEADER_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._in_body = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is dropped: the app would take it for a header.
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._raw_bytes = 0
        if self._is_ending():
            return
        self._disarm()
        if self.parser.should_upgrade():
            # The parser reads no body behind an upgrade (or CONNECT), whatever its length says.
            self._refuse(400, RequestReason.BAD_REQUEST)
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse(431, RequestReason.HEADER_TOO_LARGE)
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._raw_bytes = 0
        if not self._is_ending():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._raw_bytes = 0
        if not self._is_ending():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        was_last = not self.pipeline
        super().on_response_complete()
        if self._ends:
            if was_last:
                self.transport.close()
            return
        # Armed after every response, not at connect alone: the second request of a connection
        # could take for ever otherwise. A request that is already in is not waited for.
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._await_headers()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the signature is uvicorn's
        self._refuse(400, RequestReason.BAD_REQUEST)

    def _await_headers(self) -> None:
        self._disarm()
        self._raw_bytes = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self._raw_bytes:
            self.metrics.refused_connections.labels(Limit.HEADER_TIME).inc()
        self.transport.close()

    def _refuse(self, status: int, reason: RequestReason) -> None:
        """Answer in place of the app, and close: what else is on the line is not read."""
        if self._is_ending():
            return
        self._disarm()
        if self._owes_answers():
            # An answer now would be taken for that of an earlier request. Those come, then the end.
            self._ends = True
            self.metrics.requests.labels(Status.NONE, reason).inc()
            return
        self.metrics.requests.labels(Status(str(status)), reason).inc()
        body = json.dumps({"error": reason}).encode()
        headers: dict[str, Any] = {
            "content-type": "application/json",
            "content-length": len(body),
            "connection": "close",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + body)
        self.transport.close()

    def _is_ending(self) -> bool:
        return self._ends or bool(self.transport.is_closing())

    def _owes_answers(self) -> bool:
        """Tell whether earlier requests are unanswered; the refused one is no longer waited for."""
        if self.pipeline:
            if self.cycle.more_body:
                self.pipeline.popleft()
            return True
        cycle = self.cycle
        return cycle is not None and not cycle.more_body and not cycle.response_complete
