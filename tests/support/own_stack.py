"""Servers of a test's own, which it may kill, and a deployment on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.embedded.stack import Ports, Stack
from ops.migrate import migrate
from schemas.settings import MigrateSettings, load
from support.pipeline import Pipeline, environment


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Provide servers that the test may kill."""
    with Stack(tmp_path / "stack", ports=Ports.free()) as found:
        yield found


@pytest.fixture
def deployment(tmp_path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """Provide a migrated deployment on them."""
    variables = environment(tmp_path, stack.kafka.bootstrap, stack.postgres.url, stack.valkey.url)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        migrate(load(MigrateSettings))
    pipeline = Pipeline(tmp_path, variables)
    yield pipeline
    pipeline.stop()
