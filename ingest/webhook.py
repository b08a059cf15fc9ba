"""One request: read within limits, verify, route, publish, answer.

The signature is verified over the raw bytes before anything is parsed. 200 means that the broker
has the event durably, or that it is not for this deployment. A raw ASGI app: this is the hot path.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

import structlog

from ingest.publisher import Receipt, Unavailable
from schemas.envelope import HEADER_LIMIT, Envelope
from schemas.labels import RequestReason, Status
from schemas.metrics import IngestMetrics
from schemas.readiness import Readiness
from schemas.signature import RefusalReason, Refused, verify
from schemas.stripe_event import BadEvent, Route, decode_route
from schemas.trace import NoSpans, Spans, Trace

log = structlog.get_logger()

PATH = "/webhooks/stripe"
MAX_BODY_BYTES = 512 * 1024
BODY_SECONDS = 10.0
MAX_WAITING = 2000
RETRY_AFTER_SECONDS = 5

Secrets = Callable[[], Sequence[str]]
Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets; `reason` is what the metric says beyond it."""

    status: int
    body: dict[str, Any]
    reason: RequestReason
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Refusal(Exception):  # noqa: N818 - an answer on its way out
    """An answer other than 200; the caller is told the reason, or an `error` that says less."""

    def __init__(
        self,
        status: int,
        reason: RequestReason,
        error: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.answer = Answer(status, {"error": error or reason}, reason, headers)
        super().__init__(reason)


CLOSE = ((b"connection", b"close"),)
RETRY = ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),)


class Gone(Exception):  # noqa: N818 - nobody is left to answer
    """The caller hung up before the request was complete."""


class Publishes(Protocol):
    """What the app needs of a publisher."""

    async def publish(self, envelope: Envelope) -> Receipt:
        """Return when the broker has acknowledged; raises Unavailable."""
        ...


class Webhook:
    """The app on the webhook port."""

    def __init__(
        self,
        *,
        publisher: Publishes,
        secrets: Secrets,
        livemode: bool,
        readiness: Readiness,
        metrics: IngestMetrics,
        clock: Callable[[], float] = time.time,
        spans: Spans | None = None,
    ) -> None:
        self._publisher = publisher
        self._secrets = secrets
        self._livemode = livemode
        self._readiness = readiness
        self._metrics = metrics
        self._clock = clock
        self._spans = spans or NoSpans()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        with (
            self._metrics.request_seconds.time(),
            self._spans.request(_trace_header(scope)) as span,
        ):
            request = Request(span.trace)
            try:
                answer = await self._handle(scope, receive, request)
            except Refusal as refusal:
                answer = refusal.answer
            except Gone:
                self._metrics.requests.labels(Status.NONE, RequestReason.DISCONNECTED).inc()
                return
            except Exception:
                # The server answers 500 in our place.
                self._metrics.requests.labels(Status.ERROR, RequestReason.ERROR).inc()
                raise
            self._metrics.requests.labels(Status(str(answer.status)), answer.reason).inc()
            span.note(status=answer.status, reason=answer.reason, **request.route)
            _tell(answer, request)
            await _send(answer, send)

    async def _handle(self, scope: Scope, receive: Receive, request: "Request") -> Answer:
        headers = _check_request(scope)
        body = await _read_body(headers, receive)
        signature = self._verify(headers, body)
        try:
            route = decode_route(body)
        except BadEvent:
            raise Refusal(400, RequestReason.INVALID_PAYLOAD) from None
        request.note(route)
        reason = why_ignored(route, livemode=self._livemode)
        if reason is not None:
            return Answer(200, {"status": "ignored", "reason": reason}, reason)
        return await self._publish(route, body, signature, request.trace)

    def _verify(self, headers: dict[bytes, bytes], body: bytes) -> bytes:
        signature = headers.get(b"stripe-signature", b"")
        verdict = verify(signature, body, self._secrets(), self._clock())
        if isinstance(verdict, Refused):
            utf8 = verdict.reason is not RefusalReason.NOT_UTF8
            # One answer for every reason: which one it was would help a forger.
            told = "invalid_signature" if utf8 else "invalid_payload"
            raise Refusal(400, RequestReason(verdict.reason), told)
        self._metrics.matched_secrets.labels(verdict.position).inc()
        self._metrics.last_event.set(self._clock())
        return signature

    async def _publish(self, route: Route, body: bytes, signature: bytes, trace: Trace) -> Answer:
        if self._readiness.is_draining:
            raise Refusal(503, RequestReason.DRAINING, "unavailable", RETRY + CLOSE)
        if self._waiting >= MAX_WAITING:
            raise Refusal(503, RequestReason.TOO_MANY_WAITING, "unavailable", RETRY)
        received_at = datetime.fromtimestamp(self._clock(), UTC)
        created = received_at if route.created is None else _moment(route.created)
        envelope = Envelope(
            key=route.key,
            body=body,
            event_id=route.id,
            type=route.type,
            created=created,
            livemode=self._livemode,
            received_at=received_at,
            signature=signature,
            traceparent=str(trace),
        )
        self._waiting += 1
        try:
            receipt = await self._publisher.publish(envelope)
        except Unavailable as error:
            raise Refusal(503, RequestReason(error.reason), "unavailable", RETRY) from None
        finally:
            self._waiting -= 1
        return Answer(
            200,
            {
                "status": "accepted",
                "event": route.id,
                "topic": receipt.topic,
                "partition": receipt.partition,
                "offset": receipt.offset,
            },
            RequestReason.ACCEPTED,
        )


@dataclass(slots=True)
class Request:
    """What the log may say of a request: of its content only what a signature vouches for."""

    trace: Trace
    began: float = field(default_factory=time.perf_counter)
    route: dict[str, str] = field(default_factory=dict)

    def note(self, route: Route) -> None:
        """Note whose event it is, once its signature is verified."""
        named = {"event_id": route.id, "type": route.type, "customer": route.key}
        self.route = {name: text[:HEADER_LIMIT] for name, text in named.items()}


def _tell(answer: Answer, request: Request) -> None:
    """Write one line: at debug what was accepted, at info what was not, at warning our own 503."""
    is_accepted = answer.reason is RequestReason.ACCEPTED
    if is_accepted and not log.is_enabled_for(logging.DEBUG):
        return
    place: dict[str, Any] = {
        name: answer.body[name] for name in ("partition", "offset") if name in answer.body
    }
    facts: dict[str, Any] = {
        "answer": answer.status,
        "reason": answer.reason,
        **request.route,
        **place,
        "trace_id": request.trace.trace_id,
        "seconds": round(time.perf_counter() - request.began, 6),
    }
    if is_accepted:
        log.debug("accepted", **facts)
    elif answer.status < HTTPStatus.BAD_REQUEST:
        log.info("ignored", **facts)
    elif answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        log.info("refused", **facts)
    else:
        log.warning("refused", **facts)


def _trace_header(scope: Scope) -> bytes | None:
    """Return the one `traceparent`; several are none."""
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return found[0] if len(found) == 1 else None


def why_ignored(route: Route, *, livemode: bool) -> RequestReason | None:
    """Say why a signed event is none of this deployment's business; None: it is."""
    if route.is_thin:
        return RequestReason.THIN_EVENT
    if route.account is not None:
        return RequestReason.CONNECTED_ACCOUNT
    if route.livemode is not None and route.livemode != livemode:
        return RequestReason.OTHER_MODE
    return None


def _check_request(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request for us, repeated ones joined as HTTP has it."""
    if scope["path"] != PATH:
        raise Refusal(404, RequestReason.NOT_FOUND, headers=CLOSE)
    if scope["method"] != "POST":
        allow = (b"allow", b"POST")
        raise Refusal(405, RequestReason.METHOD_NOT_ALLOWED, headers=(allow, *CLOSE))
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b"," + value if name in headers else value
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        # Never inflated: a small body could become a large one.
        raise Refusal(415, RequestReason.UNSUPPORTED_ENCODING, headers=CLOSE)
    return headers


async def _read_body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """Read the body, counted while it comes: its declared length may be a lie."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and len(declared) < 20 and int(declared) > MAX_BODY_BYTES:  # noqa: PLR2004
        raise Refusal(413, RequestReason.PAYLOAD_TOO_LARGE, headers=CLOSE)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY_BYTES:
                    raise Refusal(413, RequestReason.PAYLOAD_TOO_LARGE, headers=CLOSE)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, RequestReason.TOO_SLOW, headers=CLOSE) from None


async def _send(answer: Answer, send: Send) -> None:
    body = json.dumps(answer.body).encode()
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                *answer.headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
