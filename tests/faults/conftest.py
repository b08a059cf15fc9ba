"""Servers that miss a silent consumer soon, and consumers that are quickly started."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.embedded.stack import Ports, Stack
from support.databases import migrated
from support.forked import GROUP, Fleet
from support.pipeline import environment
from support.servers import Servers
from support.topic import Topic


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Provide servers of this folder's own; no test that shares them stops one."""
    if os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded":
        pytest.skip("needs brokers with short limits, so it starts its own")
    folder = tmp_path_factory.mktemp("faults")
    with Stack(folder, ports=Ports.free(), kafka_properties=GROUP) as stack:
        yield Servers(stack.kafka.bootstrap, stack.postgres.url, stack.valkey.url)


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """Provide a migrated database to clone."""
    with migrated(servers, f"template_{uuid.uuid4().hex[:8]}") as name:
        yield name


@pytest.fixture
def fleet(
    tmp_path: Path, servers: Servers, database_url: str, redis_url: str, topic: str
) -> Iterator[Fleet]:
    """Provide a deployment on these servers, no process started yet."""
    variables = environment(
        tmp_path,
        servers.kafka_bootstrap,
        database_url,
        redis_url,
        HOOKLINE_KAFKA_TOPIC=topic,
        HOOKLINE_KAFKA_GROUP=topic,
    )
    found = Fleet(tmp_path, variables)
    yield found
    for member in found.members.values():
        member.process.kill()


@pytest.fixture
def log(fleet: Fleet) -> Topic:
    """Provide the deployment's topic, to be written by hand."""
    return Topic(fleet)
