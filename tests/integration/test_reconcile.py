"""Reconcile on real servers, against Stripe's twin: what counts as lost, and what not yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.reconcile.finding import SETTLED_SECONDS
from ops.reconcile.run import BehindError
from ops.simulator.life import Event
from support.bench import Bench
from support.company import Run, command
from support.feed import Feed
from support.pipeline import Pipeline
from support.stripe import DAY, T0, body, event, subscription
from support.stripe_twin import StripeTwin

NOW = T0 + 20 * DAY


@pytest.fixture
def twin() -> StripeTwin:
    """Provide an account of which nothing has been told."""
    return StripeTwin(now=NOW)


@pytest.fixture
def hookline(
    bench: Bench, pipeline: Pipeline, redis_url: str, tmp_path: Path, twin: StripeTwin
) -> Iterator[Run]:
    """Provide the command, with the settings of a deployment and the twin's address."""
    kafka = {
        name: pipeline.variables[f"HOOKLINE_{name}"]
        for name in ("KAFKA_BOOTSTRAP", "KAFKA_TOPIC", "KAFKA_GROUP")
    }
    with command(bench, redis_url, tmp_path / "plans.toml", twin, **kafka) as run:
        yield run


def happened(at: int, name: str = "evt_1") -> Event:
    """Return an event of a second."""
    document = event("customer.subscription.created", subscription(), id=name, created=at)
    return Event(name, document["type"], at, body(document))


@pytest.mark.parametrize("ago", [SETTLED_SECONDS - 1, SETTLED_SECONDS, SETTLED_SECONDS + 1])
def test_an_event_counts_as_lost_when_it_is_a_minute_old(
    hookline: Run, twin: StripeTwin, ago: int
) -> None:
    """What Stripe has only just listed may be on its way, and Stripe's list not complete."""
    twin.tell(happened(NOW - ago))
    result = hookline("reconcile")
    assert result.exit_code == 0, result.output
    assert ("1 NOT RECORDED" in result.output) is (ago >= SETTLED_SECONDS)


def test_the_next_run_finds_what_was_too_young(hookline: Run, twin: StripeTwin) -> None:
    """A run goes on from where the last one ended, and not from its moment."""
    twin.tell(happened(NOW - SETTLED_SECONDS + 1))
    assert "sent" not in hookline("reconcile", "--yes").output
    twin.now += SETTLED_SECONDS
    assert "sent: 1" in hookline("reconcile", "--yes").output


def test_what_consumers_have_not_applied_does_not_look_lost(
    hookline: Run, twin: StripeTwin, pipeline: Pipeline
) -> None:
    """While records wait in Kafka nothing is looked for, and Stripe is not asked."""
    waiting = happened(NOW - DAY)
    twin.tell(waiting)
    Feed(pipeline).publish([waiting])
    result = hookline("reconcile", "--yes", "--wait", "0")
    assert isinstance(result.exception, BehindError)
    assert "consumers have 1 record to apply" in str(result.exception)
    assert twin.requests == []


def test_two_at_once_do_not_send_twice(hookline: Run, twin: StripeTwin) -> None:
    """The second one is told that another process reconciles."""
    twin.tell(happened(NOW - DAY))
    second = []
    twin.on_request = lambda number: (
        second.append(hookline("reconcile", "--yes")) if number == 0 else None
    )
    assert "sent: 1" in hookline("reconcile", "--yes").output
    assert "another process reconciles now" in str(second[0].exception)
