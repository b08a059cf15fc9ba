"""The HTTP routes of the gatekeeper."""

import hmac
from collections.abc import Awaitable, Callable, Sequence

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from consumer.gatekeeper.reader import Reader, Unreadable
from schemas.entitlement import CUSTOMER_ID, Entitlement
from schemas.labels import Source, Status
from schemas.metrics import GatekeeperMetrics
from schemas.plans import Plans

log = structlog.get_logger()

MAX_REFERENCE = 500
NO_STORE = {"cache-control": "no-store"}

Handler = Callable[[Request], Awaitable[JSONResponse]]


def build_app(
    reader: Reader, plans: Plans, tokens: Sequence[str], metrics: GatekeeperMetrics
) -> Starlette:
    """Return the app; without tokens every caller is let in."""

    async def by_customer(request: Request) -> JSONResponse:
        customer = request.path_params["customer"]
        if not CUSTOMER_ID.fullmatch(customer):
            return _error(400, "invalid_customer")
        return _entitlement(await reader.by_customer(customer))

    async def by_reference(request: Request) -> JSONResponse:
        reference = request.path_params["reference"]
        if not 0 < len(reference) <= MAX_REFERENCE or not reference.isprintable():
            return _error(400, "invalid_reference")
        found = await reader.by_reference(reference)
        return _entitlement(found or _unknown(plans))

    def guarded(handler: Handler) -> Handler:
        async def handle(request: Request) -> JSONResponse:
            with metrics.answer_seconds.labels(Source.DATABASE).time():
                response = await _answer(handler, request, tokens)
            metrics.answers.labels(Status(str(response.status_code)), Source.DATABASE).inc()
            return response

        return handle

    return Starlette(
        routes=[
            Route("/v1/customers/{customer}/entitlement", guarded(by_customer)),
            # A reference is the application's own text; it may hold an encoded slash.
            Route("/v1/references/{reference:path}/entitlement", guarded(by_reference)),
        ],
        exception_handlers={HTTPException: _http_error},
    )


async def _answer(handler: Handler, request: Request, tokens: Sequence[str]) -> JSONResponse:
    if tokens and not _is_known(request.headers.get("authorization", ""), tokens):
        return _error(401, "unauthorized", {"www-authenticate": "Bearer"})
    try:
        return await handler(request)
    except Unreadable as error:
        log.warning("unreadable", why=str(error))
        return _error(503, "unavailable", {"retry-after": "1"})


def _is_known(header: str, tokens: Sequence[str]) -> bool:
    """Compare with every token, in constant time each."""
    scheme, _, shown = header.partition(" ")
    if scheme.lower() != "bearer":
        return False
    found = [hmac.compare_digest(shown.strip().encode(), token.encode()) for token in tokens]
    return any(found)


def _entitlement(found: Entitlement) -> JSONResponse:
    return JSONResponse(found.to_document(), headers=NO_STORE)


def _unknown(plans: Plans) -> Entitlement:
    """Return the answer for a reference that no customer has: as for a customer never seen."""
    return Entitlement(None, plans.default, False, None, None, None, 0)  # noqa: FBT003 - a record


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": code}, status, headers=NO_STORE | (headers or {}))


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    codes = {404: "not_found", 405: "method_not_allowed"}
    return _error(status, codes.get(status, "bad_request"), headers)
