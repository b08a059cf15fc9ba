"""The search through all outputs finds what it is for, and only that."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from schemas.signature import sign
from support.outputs import COMMANDS, find_leaks

BODY = '{"id":"evt_1","object":"event","data":{"object":{"object":"subscription"}}}'
LEAKS = {
    "secret": "the secret is whsec_a1",
    "signature": sign(b"{}", "whsec_a1", 1_700_000_000).rpartition(",")[2],
    "database url": "connecting to postgresql://hookline:pass@127.0.0.1:5432/hookline",
    "redis url": "redis://:pass@127.0.0.1/0",
    "kafka password": "sasl.password=kafka-pass-5d1f",
}
BODIES = {
    "body": BODY,
    "indented body": json.dumps(json.loads(BODY), indent=1).split("\n")[2],
    "body in a line": json.dumps({"event": "odd", "body": BODY}),
    "bytes": repr(BODY.encode()),
    "bytes in a line": json.dumps({"event": "odd", "body": repr(BODY.encode())}),
    "document": repr(json.loads(BODY)),
}
CLEAN = [
    '{"event": "listening", "port": 8080}',
    '{"event": "ignored", "event_id": "evt_1", "reason": "thin_event"}',
    '{"why": "Kafka at 127.0.0.1:9092,127.0.0.1:9093: timed out", "event": "paused"}',
    "postgresql://hookline:***@127.0.0.1:5432/hookline",
    "http://127.0.0.1:8080/webhooks/stripe",
    "sha256 v1 1a2b3c",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Provide a folder away from the run's own, which is searched at its end."""
    with TemporaryDirectory() as found:
        yield Path(found)


def leaks(folder: Path, name: str, text: str) -> list[str]:
    """Write a log that ends with a line, and search."""
    (folder / "deployment" / "logs").mkdir(parents=True)
    (folder / "deployment" / "logs" / name).write_text("\n".join([*CLEAN, text]))
    return list(find_leaks(folder))


@pytest.mark.parametrize("name", LEAKS | BODIES)
def test_a_leak_is_found(folder: Path, name: str) -> None:
    """Whatever form it takes, the log and the line are named."""
    (found,) = leaks(folder, "ingest.log", (LEAKS | BODIES)[name])
    assert found.startswith("deployment/logs/ingest.log: a ")


def test_a_clean_log_is_none(folder: Path) -> None:
    """Ordinary lines are left alone."""
    assert leaks(folder, "ingest.log", "") == []


def test_a_command_may_show_a_body_and_no_secret(folder: Path) -> None:
    """Who asks for a dead letter gets its bytes."""
    assert leaks(folder, COMMANDS, BODY) == []
    with (folder / "deployment" / "logs" / COMMANDS).open("a") as log:
        log.write("\nwhsec_a1")
    assert len(list(find_leaks(folder))) == 1
