"""What the brokers do not acknowledge: what readiness says of it, and who waits for it."""

import asyncio
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from ingest import publisher
from ingest.publisher import (
    TRY_AGAIN_SECONDS,
    Acknowledged,
    Publisher,
    Unavailable,
    WhyUnavailable,
)
from ops.embedded.ports import free_ports
from schemas.envelope import Envelope
from schemas.metrics import IngestMetrics

MOMENT = datetime(2026, 11, 24, tzinfo=UTC)


class Clock:
    """A clock in the test's hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_nothing_is_said_before_a_failure() -> None:
    """A process that has published nothing yet is ready."""
    assert Acknowledged(Clock()).problem() is None


def test_the_first_failure_is_said_until_an_acknowledgement() -> None:
    """The time counts from the first failure in a row, and one acknowledgement ends it."""
    clock = Clock()
    acknowledged = Acknowledged(clock)
    acknowledged.failed()
    clock.now += 7
    acknowledged.failed()
    assert acknowledged.problem() == "Kafka has acknowledged nothing for 7 s"
    acknowledged.worked()
    assert acknowledged.problem() is None
    acknowledged.failed()
    assert acknowledged.problem() == "Kafka has acknowledged nothing for 0 s"


def test_a_failure_is_forgotten_so_that_somebody_tries_again() -> None:
    """Kept out for ever by readiness, no caller could find out that the brokers are back."""
    clock = Clock()
    acknowledged = Acknowledged(clock)
    acknowledged.failed()
    clock.now += TRY_AGAIN_SECONDS
    assert acknowledged.problem() is not None
    clock.now += 1
    assert acknowledged.problem() is None


def test_who_waits_too_long_is_told_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is not there acknowledges nothing; the caller does not wait for it to be."""
    monkeypatch.setattr(publisher, "ACK_SECONDS", 0.05)
    envelope = Envelope(
        key="cus_1", body=b"{}", event_id="evt_1", type="t", created=MOMENT, livemode=False,
        received_at=MOMENT, signature=b"", traceparent="",
    )  # fmt: skip

    async def publish() -> None:
        loop = asyncio.get_running_loop()
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": f"127.0.0.1:{free_ports(1)[0]}",
            # So that nothing is left to wait for at the end.
            "message.timeout.ms": 200,
        }
        client = Publisher(config, "topic", loop, IngestMetrics(CollectorRegistry()))
        try:
            await client.publish(envelope)
        finally:
            await asyncio.to_thread(client.close)

    with pytest.raises(Unavailable) as raised:
        asyncio.run(publish())
    assert raised.value.reason is WhyUnavailable.NOT_ACKNOWLEDGED
