"""What a consumer asks of Stripe by itself, task by task, against Stripe's twin."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.billing.merge import WINDOW_SECONDS
from consumer.learn import Learner
from ops.applying import open_batch
from ops.simulator.life import Event
from ops.stripe_api.client import open_api
from ops.stripe_api.failures import Failures
from ops.stripe_api.one_at_a_time import Turn, take_turn
from ops.stripe_api.reading import Reader
from ops.verify.run import Options as VerifyOptions
from ops.watch.ties import ASK_AGAIN_SECONDS, Ties
from ops.watch.watch import Watch
from schemas.settings import BackfillSettings, ConsumerSettings, load
from support.bench import Bench
from support.company import command
from support.polling import eventually
from support.stripe import DAY, T0, Json, body, event, subscription
from support.stripe_twin import StripeTwin

EVENING = datetime(2026, 1, 1, 22, tzinfo=UTC)
NIGHT = datetime(2026, 1, 2, 3, tzinfo=UTC)
COMPLETED = "SELECT count(*) FROM stripe_tasks WHERE task = 'verify' AND completed_at IS NOT NULL"


@pytest.fixture
def twin() -> StripeTwin:
    """Provide an account of which nothing has been told."""
    return StripeTwin(now=T0 + DAY)


@pytest.fixture(autouse=True)
def _settings(
    bench: Bench,
    redis_url: str,
    tmp_path: Path,
    twin: StripeTwin,
) -> Iterator[None]:
    """Provide the settings of a consumer with a key that holds all against Stripe at three."""
    more = {
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "RECONCILE_MINUTES": "0",
        "VERIFY_AT": "03:00",
    }
    with command(bench, redis_url, tmp_path / "plans.toml", twin, **more):
        yield


def changed(at: int, name: str, *, to: bool) -> Json:
    """Return an event that sets or takes back the end of a subscription."""
    return event(
        "customer.subscription.updated",
        subscription(cancel_at_period_end=to),
        at,
        previous={"cancel_at_period_end": not to},
        id=name,
    )


def tell(twin: StripeTwin, document: Json) -> None:
    """Let an event happen at Stripe."""
    twin.tell(Event(document["id"], document["type"], document["created"], body(document)))


@dataclass
class Night:
    """A consumer's watch in a thread, whose clock a test sets."""

    watch: Watch
    registry: CollectorRegistry

    def counted(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(name, labels) or 0


@contextmanager
def watching(now: Callable[[], datetime]) -> Iterator[Night]:
    """Run a watch while the context is open."""
    registry = CollectorRegistry()
    nightly = VerifyOptions(full=True, wait_seconds=0)
    watch = Watch(load(ConsumerSettings), registry, now=now, nightly=nightly)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield Night(watch, registry)
    finally:
        watch.end()
        thread.join()


def test_each_night_all_is_held_against_stripe_by_one_consumer(
    bench: Bench, twin: StripeTwin
) -> None:
    """At the time what differs is counted; nobody asks Stripe before, or a second time."""
    tell(twin, event("customer.subscription.created", subscription()))
    clock = [EVENING]
    asked_at: list[datetime] = []
    twin.on_request = lambda _number: asked_at.append(clock[0])
    with watching(lambda: clock[0]) as first, watching(lambda: clock[0]) as second:
        both = (first, second)
        ages = "hookline_verify_last_success_timestamp_seconds"
        clock[0] = NIGHT
        eventually(lambda: bench.query(COMPLETED) == [(1,)], 30, "the night's comparison")
        eventually(lambda: all(one.counted(ages) > 0 for one in both), 30, "telling the age")
        drift = [
            one.counted("hookline_verify_differing_subscriptions", kind="event_missing")
            for one in both
        ]
        assert sorted(drift) == [0, 1]
        listed = [path for _, path, _ in twin.requests if path == "/v1/subscriptions"]
        assert len(listed) == 1
    assert set(asked_at) == {NIGHT}
    assert bench.query("SELECT count(*) FROM subscriptions") == [(0,)]


def test_one_process_at_a_time_has_a_turn(bench: Bench) -> None:
    """A second process is refused without waiting; another purpose, and a later time, is not."""
    with (
        take_turn(bench.engine, Turn.VERIFY) as first,
        take_turn(bench.engine, Turn.VERIFY) as second,
        take_turn(bench.engine, Turn.TIES) as other,
    ):
        assert (first, second, other) == (True, False, True)
    with take_turn(bench.engine, Turn.VERIFY) as later:
        assert later


def test_stripe_is_asked_of_a_tie_when_its_window_is_over(bench: Bench, twin: StripeTwin) -> None:
    """Asked earlier, the answer could hold a state that a third event of that second replaces."""
    bench.apply([changed(0, "evt_2", to=True), changed(0, "evt_1", to=False)])
    clock = [0.0]
    ties = Ties(bench.engine, lambda: clock[0])
    for seconds, is_found in ((0, False), (WINDOW_SECONDS + 2, False), (WINDOW_SECONDS + 3, True)):
        clock[0] = T0 + seconds
        assert ties.find() == ({"sub_1": T0} if is_found else {})
    assert twin.requests == []


@pytest.mark.parametrize(("later", "settled"), [(WINDOW_SECONDS + 1, []), (DAY, ["sub_1"])])
def test_an_answer_settles_a_tie_by_stripes_clock_alone(
    bench: Bench, twin: StripeTwin, later: int, settled: list[str]
) -> None:
    """A clock of ours that is ahead asks too early: the answer is left, and the tie asked again."""
    tie = [changed(0, "evt_2", to=True), changed(0, "evt_1", to=False)]
    for one in tie:
        tell(twin, one)
    bench.apply(tie)
    twin.now = T0 + later
    settings = load(BackfillSettings)
    clock = [float(T0 + DAY)]
    ties = Ties(bench.engine, lambda: clock[0])
    api = open_api(settings)
    with open_batch(settings, bench.engine) as applying:
        learner = Learner(applying.ledger, applying.batch)
        reader = Reader(settings.livemode, Failures(api))
        assert list(ties.settle(ties.find(), api, reader, learner)) == settled
    api.close()
    assert ties.find() == {}
    row = "SELECT cancel_at_period_end, ambiguous FROM subscriptions"
    assert bench.query(row) == ([(False, False)] if settled else [(True, True)])
    clock[0] += 2 * ASK_AGAIN_SECONDS
    assert ties.find() == ({} if settled else {"sub_1": T0})
