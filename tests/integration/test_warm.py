"""`hookline warm`: ordinary reads, so that the next answer is cached."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops import warm
from ops.usage import UsageError
from support.reading import Store


@pytest.fixture
def store(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Store]:
    """Provide a store with three customers."""
    found = Store(database_url, redis_url, tmp_path)
    for number in range(3):
        found.add(f"cus_{number}", (f"sub_{number}", "active", "pro", None, None))
    yield found
    found.close()


def test_everybody_is_read_and_stored_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All customers, in pages; who is cached already is left as it is."""
    monkeypatch.setattr(warm, "PAGE", 2)
    assert warm.run(store.settings, customers=("cus_1",), everybody=False) == 0
    assert store.redis.exists(store.entry("cus_1"))
    assert warm.run(store.settings, customers=(), everybody=True) == 0
    assert all(store.redis.exists(store.entry(f"cus_{n}")) for n in range(3))
    told = capsys.readouterr().out
    assert "1 customer: 1 stored, 0 cached already" in told
    assert "3 customers: 2 stored, 1 cached already" in told


def test_what_cannot_be_warmed_is_said(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Without PostgreSQL: exit code 1 and how many; nobody named, or badly: usage."""
    away = SecretStr("postgresql://u:p@127.0.0.1:1/db")
    settings = store.settings.model_copy(update={"database_url": away})
    assert warm.run(settings, customers=("cus_1",), everybody=False) == 1
    assert "1 could not be read" in capsys.readouterr().out
    for customers, everybody in (((), False), (("cus_1",), True), (("1",), False)):
        with pytest.raises(UsageError):
            warm.run(store.settings, customers=customers, everybody=everybody)


def test_a_redis_that_caches_nothing_is_said(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reads alone would warm nothing, so it is a failure."""
    nowhere = SecretStr("redis://127.0.0.1:1/0")
    settings = store.settings.model_copy(update={"redis_url": nowhere})
    assert warm.run(settings, customers=("cus_1",) * 20, everybody=False) == 1
    assert "nothing can be cached" in capsys.readouterr().out
