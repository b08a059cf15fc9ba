"""Composition root of the gatekeeper: builds, serves, closes in reverse."""

import asyncio
import socket

import structlog
import uvloop

from consumer.errors import Halt
from consumer.gatekeeper.api import build_app
from consumer.gatekeeper.backfill import BackfillProbe
from consumer.gatekeeper.client import AsyncGatekeeper
from consumer.gatekeeper.primary import PostgresPrimary
from consumer.storage.redis_session import WrongRedisError
from schemas.metrics import GatekeeperMetrics, new_registry
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

    Raises PlansError, or Halt for a Redis that no waiting mends.
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
    gatekeeper = AsyncGatekeeper(settings, registry=registry)
    probe = DatabaseProbe(gatekeeper.primary)
    readiness.add("postgresql", probe.problem)
    readiness.add("redis", gatekeeper.line.problem, optional=True)
    backfill = BackfillProbe(gatekeeper.primary.engine)
    readiness.tell("backfill", backfill.say)
    tokens = [token.get_secret_value() for token in settings.gatekeeper_tokens]
    app = build_app(gatekeeper.reader, tokens, metrics)
    try:
        await gatekeeper.line.greet()
    except WrongRedisError as error:
        await gatekeeper.aclose()
        raise Halt(str(error)) from None
    probing = asyncio.create_task(probe.watch())
    looking = asyncio.create_task(backfill.watch())
    try:
        with serve_admin(settings.admin_host, settings.gatekeeper_admin_port, registry, readiness):
            log.info("listening", port=settings.gatekeeper_port)
            await serve(app, listener, readiness)
    finally:
        probing.cancel()
        looking.cancel()
        await gatekeeper.aclose()
    log.info("stopped")
    return 0


class DatabaseProbe:
    """Looks every two seconds whether the primary can be read."""

    def __init__(self, primary: PostgresPrimary) -> None:
        self._primary = primary
        self._problem: str | None = "not asked yet"

    def problem(self) -> str | None:
        """Return what is wrong, as of the last look."""
        return self._problem

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            self._problem = await self._primary.ping()
            await asyncio.sleep(PROBE_EVERY_SECONDS)
