"""Composition root of the gatekeeper: builds, serves, closes in reverse."""

import asyncio
import socket

import structlog
import uvloop

from consumer.gatekeeper.api import build_app
from consumer.gatekeeper.reader import Reader, make_engine
from schemas.metrics import GatekeeperMetrics, new_registry
from schemas.plans import load_plans
from schemas.readiness import Readiness, Serve, ServeAdmin
from schemas.settings import GatekeeperSettings

log = structlog.get_logger()

PROBE_EVERY_SECONDS = 2.0


def run(
    settings: GatekeeperSettings,
    *,
    listener: socket.socket,
    serve: Serve,
    serve_admin: ServeAdmin,
) -> int:
    """Answer entitlements until SIGTERM or SIGINT, and return the exit code; blocks.

    Raises PlansError.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, listener, serve, serve_admin))


async def _run(
    settings: GatekeeperSettings,
    listener: socket.socket,
    serve: Serve,
    serve_admin: ServeAdmin,
) -> int:
    registry = new_registry()
    metrics = GatekeeperMetrics(registry)
    readiness = Readiness()
    plans = load_plans(settings.plans_file)
    engine = make_engine(settings)
    reader = Reader(engine, plans)
    probe = DatabaseProbe(reader)
    readiness.add("postgresql", probe.problem)
    tokens = [token.get_secret_value() for token in settings.gatekeeper_tokens]
    app = build_app(reader, plans, tokens, metrics)
    probing = asyncio.create_task(probe.watch())
    try:
        with serve_admin(settings.admin_host, settings.gatekeeper_admin_port, registry, readiness):
            log.info("listening", port=settings.gatekeeper_port)
            await serve(app, listener, readiness)
    finally:
        probing.cancel()
        await engine.dispose()
    log.info("stopped")
    return 0


class DatabaseProbe:
    """Looks every two seconds whether the primary can be read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._problem: str | None = "not asked yet"

    def problem(self) -> str | None:
        """Return what is wrong, as of the last look."""
        return self._problem

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self._problem = await self._reader.ping()
            await asyncio.sleep(PROBE_EVERY_SECONDS)
