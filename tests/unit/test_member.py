"""Leaving the group: in order, and not for ever."""

import threading
import time

import pytest
from confluent_kafka import Consumer

from consumer import kafka
from consumer.kafka import Member


class Stuck(Consumer):
    """A client whose close never returns."""

    release = threading.Event()

    def close(self) -> None:
        """Wait until the test is over."""
        self.release.wait(60)


class StuckMember(Member, Stuck):
    """A member on such a client."""


def test_a_client_that_does_not_return_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends although the brokers never let the member go."""
    monkeypatch.setattr(kafka, "LEAVE_SECONDS", 0.1)
    member = StuckMember({"group.id": "g", "bootstrap.servers": "127.0.0.1:1"})
    began = time.monotonic()
    member.close()
    assert time.monotonic() - began < 30
    assert any(thread.name == "leave" for thread in threading.enumerate())
    Stuck.release.set()


def test_a_client_that_returns_is_closed() -> None:
    """After it nothing can be asked of the client."""
    member = Member({"group.id": "g", "bootstrap.servers": "127.0.0.1:1"})
    member.close()
    with pytest.raises(RuntimeError, match="closed"):
        member.consume(1, 0)
