"""HTTP as every process serves it: a public app until a signal, and the admin port beside it."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas.readiness import Readiness

STOP_SECONDS = 5.0
DRAIN_SECONDS = 20
KEEP_ALIVE_SECONDS = 5


class PortError(Exception):
    """A port cannot be opened; one sentence that names the setting."""


async def serve(
    app: Any,
    listener: socket.socket,
    readiness: Readiness,
    *,
    protocol: Any = "httptools",
    on_hangup: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs, for at most 20 s (schemas.Serve)."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _QuietServer(config)

    def drain() -> None:
        readiness.drain()
        # A second signal does not wait for what runs.
        server.force_exit = server.should_exit
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, drain)
    if on_hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    await server.serve(sockets=[listener])


@contextmanager
def serve_admin(
    host: str, port: int, registry: CollectorRegistry, readiness: Readiness
) -> Iterator[None]:
    """Serve `/healthz`, `/readyz` and `/metrics` from a thread while the context is open.

    Raises PortError if the port is taken.
    """
    listener = listen(host, port, "HOOKLINE_…_ADMIN_PORT")
    config = uvicorn.Config(
        build_app(registry, readiness),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = _QuietServer(config)
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


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Bind a port before anything is served; raises PortError naming the setting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortError(
            f"cannot listen on {host}:{port} ({error.strerror}): set {setting} to a free port"
        ) from None
    return listener


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
