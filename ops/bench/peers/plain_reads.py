"""The gatekeeper's server without hookline: a plain GET of Redis, a plain indexed SELECT."""

import asyncio
import os
import sys

import uvloop
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops.bench.peers.plain_key import plain_key
from ops.embedded.ports import HOST
from ops.logs import configure
from ops.servers import listen, serve
from schemas.readiness import Readiness

CONNECTIONS = 16
"""As many as the gatekeeper reads PostgreSQL with at once."""

_SELECT = text("SELECT version FROM customers WHERE customer_id = :key")


def build_app() -> Starlette:
    """Return the app; its clients connect with the first request."""
    redis = Redis.from_url(os.environ["HOOKLINE_REDIS_URL"])
    url = os.environ["HOOKLINE_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    engine = create_async_engine(
        url, pool_size=CONNECTIONS, max_overflow=0, isolation_level="AUTOCOMMIT"
    )

    async def get(request: Request) -> Response:
        found = await redis.get(plain_key(request.path_params["customer"]))
        return Response(found, media_type="application/json")

    async def select(request: Request) -> JSONResponse:
        async with engine.connect() as connection:
            answer = await connection.execute(_SELECT, {"key": request.path_params["customer"]})
            return JSONResponse({"version": answer.scalar_one()})

    return Starlette(routes=[Route("/get/{customer}", get), Route("/select/{customer}", select)])


def main(port: int) -> None:
    """Serve until SIGTERM."""
    configure("info", "plain")
    listener = listen(HOST, port, "the port of the command line")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(build_app(), listener, Readiness()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
