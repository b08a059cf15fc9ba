"""Servers for the whole run; a database, a topic and a Redis number for each test."""

import itertools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from ops.embedded.ports import free_ports
from ops.embedded.valkey import Valkey
from support.bench import Bench
from support.databases import database, migrated
from support.outputs import find_leaks
from support.pipeline import PLANS_TEXT, Pipeline, environment
from support.servers import NoServersError, Servers, provide
from support.topic import make_topic

pytest_plugins = ["support.own_stack", "support.reporting"]

_redis_numbers = itertools.count()


KEPT = {"HOOKLINE_TEST_STACK", "HOOKLINE_CACHE_DIR"}
OWN = {name for name in os.environ if name.startswith("HOOKLINE_")}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a person's own settings, and another test's, out of every test."""
    found = {name for name in os.environ if name.startswith("HOOKLINE_")}
    assert found <= OWN, f"a test before this one left {sorted(found - OWN)} behind"
    for name in found - KEPT:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _search_all_outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Demand at the end that no process of the run has written a secret, signature or body."""
    yield
    leaks = list(find_leaks(tmp_path_factory.getbasetemp()))
    assert not leaks, "\n".join(leaks[:20])


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Provide Kafka, PostgreSQL and Valkey for the run; none: skip, or fail with CI=true."""
    try:
        with provide(tmp_path_factory.mktemp("servers")) as found:
            yield found
    except NoServersError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """Provide a migrated database to clone."""
    with migrated(servers, f"template_{uuid.uuid4().hex[:8]}") as name:
        yield name


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """Provide a database of the test's own, migrated."""
    with database(servers, f"test_{uuid.uuid4().hex[:8]}", template) as url:
        yield url


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """Provide a Redis database of the test's own: one of sixteen, emptied."""
    import redis  # noqa: PLC0415 - tests without servers need none

    base = servers.redis_url.rsplit("/", 1)[0]
    url = f"{base}/{next(_redis_numbers) % 16}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def kafka_bootstrap(servers: Servers) -> str:
    """Provide the brokers."""
    return servers.kafka_bootstrap


@pytest.fixture
def topic(servers: Servers) -> Iterator[str]:
    """Provide a topic of the test's own, with hookline's partitions."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers.kafka_bootstrap})
    make_topic(admin, name)
    yield name
    admin.delete_topics([name])[name].result()


@pytest.fixture
def pipeline(
    tmp_path: Path, servers: Servers, database_url: str, redis_url: str, topic: str
) -> Iterator[Pipeline]:
    """Provide a deployment on the shared servers, no process started yet."""
    variables = environment(
        tmp_path,
        servers.kafka_bootstrap,
        database_url,
        redis_url,
        HOOKLINE_KAFKA_TOPIC=topic,
        HOOKLINE_KAFKA_GROUP=topic,
    )
    pipeline = Pipeline(tmp_path, variables)
    yield pipeline
    pipeline.stop()


@pytest.fixture
def bench(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    """Provide a batch on a database and a Redis of the test's own."""
    plans = tmp_path / "plans.toml"
    plans.write_text(PLANS_TEXT)
    found = Bench(database_url, redis_url, plans)
    yield found
    found.ledger.close()
    found.redis.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Provide a Valkey that the test may do anything to."""
    (port,) = free_ports(1)
    server = Valkey(tmp_path / "own", port)
    server.start()
    yield server
    server.stop()
