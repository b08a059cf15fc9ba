"""The HTTP routes of the gatekeeper."""

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from consumer.gatekeeper.openapi import CUSTOMER_PATH, DOCUMENT, DOCUMENT_PATH, REFERENCE_PATH
from consumer.gatekeeper.primary import Unreadable
from consumer.gatekeeper.reader import Malformed, Reader
from schemas.entitlement import Entitlement
from schemas.labels import Source, Status
from schemas.metrics import GatekeeperMetrics

log = structlog.get_logger()

NO_STORE = {"cache-control": "no-store"}

Find = Callable[[str], Awaitable[Entitlement]]


def build_app(reader: Reader, tokens: Sequence[str], metrics: GatekeeperMetrics) -> Starlette:
    """Return the app; without tokens every caller is let in."""
    door = Door(tokens)
    document = msgspec.json.encode(DOCUMENT)

    async def show_document(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    register_url_convertor("text", AnyText())
    return Starlette(
        routes=[
            Route(
                CUSTOMER_PATH,
                Question("customer", reader.by_customer, door, metrics),
                methods=["GET"],
            ),
            Route(
                REFERENCE_PATH.replace("{reference}", "{reference:text}"),
                Question("reference", reader.by_reference, door, metrics),
                methods=["GET"],
            ),
            Route(DOCUMENT_PATH, show_document),
        ],
        exception_handlers={HTTPException: _http_error},
    )


class AnyText(Convertor[str]):
    """Matches the application's own text, an encoded slash or line feed included."""

    regex = r"(?s:.*)"

    def convert(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it is."""
        return value


class Door:
    """Lets callers in that show one of the tokens; all, where there are none."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def lets_in(self, scope: Scope) -> bool:
        """Compare with every token, in constant time each."""
        if not self._tokens:
            return True
        header: bytes = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
        scheme, _, shown = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        found = [hmac.compare_digest(shown.strip(), token) for token in self._tokens]
        return any(found)


@dataclass(frozen=True, slots=True)
class Question:
    """One route; an ASGI app, since it is what most of the time goes to."""

    parameter: str
    find: Find
    door: Door
    metrics: GatekeeperMetrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count the answer."""
        began = time.perf_counter()
        response, source = await self._answer(scope)
        seconds = time.perf_counter() - began
        self.metrics.answer_seconds.labels(source).observe(seconds)
        self.metrics.answers.labels(Status(str(response.status_code)), source).inc()
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> tuple[Response, Source]:
        if not self.door.lets_in(scope):
            return _error(401, "unauthorized", {"www-authenticate": "Bearer"}), Source.NONE
        try:
            found = await self.find(scope["path_params"][self.parameter])
        except Malformed:
            return _error(400, f"invalid_{self.parameter}"), Source.NONE
        except Unreadable as error:
            log.warning("unreadable", why=str(error))
            return _error(503, "unavailable", {"retry-after": "1"}), Source.NONE
        return _json(200, found.encode()), Source(found.source)


def _json(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, NO_STORE | dict(headers or {}), "application/json")


def _error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json(status, msgspec.json.encode({"error": code}), headers)


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    codes = {404: "not_found", 405: "method_not_allowed"}
    return _error(status, codes.get(status, "bad_request"), headers)
