"""Where a test's servers come from: started here, somebody's, or containers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.errors import EmbeddedError
from ops.embedded.stack import Ports, Stack

VARIABLES = ("HOOKLINE_KAFKA_BOOTSTRAP", "HOOKLINE_DATABASE_URL", "HOOKLINE_REDIS_URL")
GIVEN = {name: os.environ[name] for name in VARIABLES if name in os.environ}
"""Read at once: the environment is cleaned before each test, so before servers are asked for."""


@dataclass(frozen=True)
class Servers:
    """Three servers that tests share; the database URL's role may create databases."""

    kafka_bootstrap: str
    database_url: str
    redis_url: str


class NoServersError(Exception):
    """This machine has no servers for tests; the sentence says why."""


@contextmanager
def provide(folder: Path) -> Iterator[Servers]:
    """Provide servers as HOOKLINE_TEST_STACK says; raises NoServersError."""
    source = os.environ.get("HOOKLINE_TEST_STACK", "embedded")
    if source == "external":
        yield _external()
    elif source == "containers":
        yield from _containers()
    elif source == "embedded":
        yield from _embedded(folder)
    else:
        raise NoServersError(f"HOOKLINE_TEST_STACK={source}: say embedded, external or containers")


def _external() -> Servers:
    missing = [name for name in VARIABLES if name not in GIVEN]
    if missing:
        raise NoServersError(f"HOOKLINE_TEST_STACK=external needs {', '.join(missing)}")
    return Servers(*(GIVEN[name] for name in VARIABLES))


def _embedded(folder: Path) -> Iterator[Servers]:
    stack = Stack(folder, ports=Ports.free())
    try:
        stack.start()
    except EmbeddedError as error:
        raise NoServersError(str(error)) from error
    try:
        yield Servers(stack.kafka.bootstrap, stack.postgres.url, stack.valkey.url)
    finally:
        stack.stop()


def _containers() -> Iterator[Servers]:
    from docker.errors import DockerException  # noqa: PLC0415 - only where Docker is asked for
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - same
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - same
    from testcontainers.community.redis import RedisContainer  # noqa: PLC0415 - same

    try:
        with (
            KafkaContainer("apache/kafka:4.3.1").with_kraft() as kafka,
            PostgresContainer("postgres:18", driver=None) as postgres,
            RedisContainer("valkey/valkey:9") as valkey,
        ):
            yield Servers(
                kafka.get_bootstrap_server(),
                postgres.get_connection_url(),
                f"redis://{valkey.get_container_host_ip()}:{valkey.get_exposed_port(6379)}/0",
            )
    except DockerException as error:
        raise NoServersError(f"HOOKLINE_TEST_STACK=containers: {error}") from error
