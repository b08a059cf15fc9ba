"""The admin port of every process: alive, ready, metrics. Never on the public port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas.readiness import Readiness

STOP_SECONDS = 5.0


class AdminPortError(Exception):
    """The admin port cannot be opened; one sentence."""


@contextmanager
def serve_admin(
    host: str, port: int, registry: CollectorRegistry, readiness: Readiness
) -> Iterator[None]:
    """Serve `/healthz`, `/readyz` and `/metrics` from a thread while the context is open.

    Raises AdminPortError if the port is taken.
    """
    listener = open_listener(host, port)
    config = uvicorn.Config(
        build_app(registry, readiness),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = _ThreadedServer(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="admin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        listener.close()


def build_app(registry: CollectorRegistry, readiness: Readiness) -> Starlette:
    """Return the admin app."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        ready, document = readiness.report()
        return JSONResponse(document, 200 if ready else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


def open_listener(host: str, port: int) -> socket.socket:
    """Bind a port now, so that a taken one is an error here and not in a thread."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AdminPortError(
            f"cannot open the admin port {host}:{port} ({error.strerror}): set "
            "HOOKLINE_INGEST_ADMIN_PORT, HOOKLINE_GATEKEEPER_ADMIN_PORT or "
            "HOOKLINE_CONSUMER_ADMIN_PORT to a free one"
        ) from None
    return listener


class _ThreadedServer(uvicorn.Server):
    """A server that leaves signals to the process's main thread."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
