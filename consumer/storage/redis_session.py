"""One connection to Redis, made anew after every failure: plain, or found through Sentinel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from schemas.access import why_redis_refuses

CONNECT_SECONDS = 1.0
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Session:
    """One connection and the generation of the server behind it, read when it was made.

    The generation changes with a restart or a fail-over, so keys that carry it cannot outlive
    the server that held them. A broken session is thrown away, never reconnected in place:
    a command sent again would speak to another server under the old generation.
    """

    client: redis.Redis
    generation: str


class WrongRedisError(ValueError):
    """No waiting mends this: a cluster, a refused password, a certificate not accepted."""


class NoGenerationError(NoPermissionError):
    """The server does not say which one it is, so an earlier one's entries could pass for its."""

    def __init__(self) -> None:
        super().__init__(
            "an access list keeps the user of HOOKLINE_REDIS_URL from INFO, so nothing is cached: "
            "allow it with ACL SETUSER … +info"
        )


def open_session(url: str) -> Session:
    """Connect and read the generation; raises redis.RedisError, or WrongRedisError.

    Through Sentinel (`redis+sentinel://host:port,host:port/service/0`) it asks for the primary
    each time, and takes only a server that says it is one.
    """
    by_sentinel = "+sentinel" in urlsplit(url).scheme
    try:
        client = _connect(find_primary(url) if by_sentinel else url)
    except redis.RedisError as error:
        if why := why_redis_refuses(str(error)):
            raise WrongRedisError(why) from None
        raise
    try:
        return Session(client, _generation(client, must_be_primary=by_sentinel))
    except BaseException:
        client.close()
        raise


def _connect(url: str) -> redis.Redis:
    """Return a client that is connected, by one connection and once.

    Pools look at a connection before they lend it, and silently replace one that was lost.
    """
    client = redis.Redis.from_url(
        url,
        max_connections=1,
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    connection = client.connection_pool.get_connection()
    connection.redis_connect_func = _refuse_to_reconnect  # type: ignore[assignment] # it takes one
    client.connection_pool.release(connection)
    return client


def _refuse_to_reconnect(connection: AbstractConnection) -> None:  # noqa: ARG001
    raise redis.ConnectionError("a broken session is thrown away")


def find_primary(url: str) -> str:
    """Ask the sentinels of a URL and return the URL of the primary; raises redis.RedisError."""
    scheme, place, path, query, _ = urlsplit(url)
    user, _, hosts = place.rpartition("@")
    service, _, database = path.strip("/").partition("/")
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_host_and_port(entry) for entry in hosts.split(",")],
        socket_timeout=CONNECT_SECONDS / 2,
        socket_connect_timeout=CONNECT_SECONDS / 2,
        retry=Retry(NoBackoff(), 0),
        ssl=scheme.startswith("rediss"),
    )
    try:
        host, port = sentinel.discover_master(service)  # type: ignore[no-untyped-call]
    finally:
        for client in sentinel.sentinels:
            client.close()
    address = f"{user}@{host}:{port}" if user else f"{host}:{port}"
    return urlunsplit((scheme.partition("+")[0], address, f"/{database or 0}", query, ""))


def read_generation(info: Mapping[str, Any]) -> str:
    """Return the generation out of INFO's section `server`; raises WrongRedisError."""
    if "cluster" in {info.get("redis_mode"), info.get("server_mode")}:  # Redis, Valkey
        raise WrongRedisError(
            "HOOKLINE_REDIS_URL names a Redis cluster: use a single server or Sentinel"
        )
    return str(info["run_id"])


def _generation(client: redis.Redis, *, must_be_primary: bool) -> str:
    try:
        generation = read_generation(client.info("server"))
        if must_be_primary and client.info("replication")["role"] != "master":
            raise redis.ReadOnlyError("the server that Sentinel names is no primary yet")
    except NoPermissionError:
        raise NoGenerationError from None
    return generation


def _host_and_port(entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":") if ":" in entry else (entry, "", "")
    return host, int(port or SENTINEL_PORT)
