"""What consumers ask of Stripe by themselves, where they have a key: lost events and ties."""

from collections.abc import Iterator

import pytest

from ops.simulator.history import World
from ops.simulator.life import Event
from support.company import END
from support.feed import Feed
from support.load import find_mismatches
from support.pipeline import Pipeline, counted, log_of
from support.polling import eventually
from support.stripe import DAY, Json, body, event, subscription
from support.stripe_twin import KEY, StripeTwin, lose, serving

CONSUMERS = ("consumer-1", "consumer-2")


@pytest.fixture
def twin(pipeline: Pipeline) -> Iterator[StripeTwin]:
    """Provide an account that a deployment has the key of."""
    twin = StripeTwin(now=END + 2 * DAY)
    with serving(twin) as base:
        pipeline.variables = {
            **pipeline.variables,
            "HOOKLINE_STRIPE_API_KEY": KEY,
            "HOOKLINE_STRIPE_API_BASE": base,
        }
        yield twin
        pipeline.stop()


def _changed(at: int, name: str, *, to: bool) -> Event:
    fields: Json = {"id": "sub_tie", "customer": "cus_tie", "cancel_at_period_end": to}
    document = event(
        "customer.subscription.updated",
        subscription(**fields),
        0,
        previous={"cancel_at_period_end": not to},
        id=name,
        created=at,
    )
    return Event(name, document["type"], at, body(document))


def test_consumers_send_what_was_lost_and_settle_ties_by_themselves(
    pipeline: Pipeline, twin: StripeTwin
) -> None:
    """Two consumers with a key: each lost event is sent once, and Stripe is asked of a tie once."""
    known = list(World("watch", END).histories(12))
    events = [event for history in known for event in history.events]
    # By its id the first would be the last: only Stripe knows better.
    tie = [_changed(END, "evt_tie_2", to=True), _changed(END, "evt_tie_1", to=False)]
    for one in [*events, *tie]:
        twin.tell(one)
    delivered, lost = lose(events, twin, 0.1, "watch")
    assert lost
    Feed(pipeline).publish([*delivered, *tie])
    pipeline.start(*CONSUMERS)

    def missing() -> float:
        pages = map(pipeline.metrics, CONSUMERS)
        return sum(counted(page, "hookline_reconcile_missing_total")[""] for page in pages)

    eventually(lambda: missing() == len(lost), 120, "the reconciliation")
    row = "SELECT cancel_at_period_end, ambiguous FROM subscriptions WHERE subscription_id = "
    eventually(lambda: pipeline.query(row + "'sub_tie'") == [(False, False)], 60, "the answer")
    assert sum(path.endswith("sub_tie") for _, path, _ in twin.requests) == 1
    ids = "SELECT count(DISTINCT event_id) FROM webhook_events"
    eventually(lambda: pipeline.query(ids) == [(len(events) + 2,)], 60, "the last of the lost")
    assert find_mismatches(pipeline, [history.truth for history in known]) == []
    assert sum("lost_events_sent" in log_of(pipeline, name) for name in CONSUMERS) == 1


def test_a_key_without_its_mode_is_one_sentence(pipeline: Pipeline, twin: StripeTwin) -> None:
    """A consumer with a key must know which mode it serves; it says so and does not start."""
    assert twin is not None
    pipeline.variables = {n: v for n, v in pipeline.variables.items() if n != "HOOKLINE_LIVEMODE"}
    member = pipeline.launch("consumer-1")
    eventually(lambda: not member.process.is_alive(), 60, "the end")
    assert "HOOKLINE_LIVEMODE is not set" in log_of(pipeline, "consumer-1")
