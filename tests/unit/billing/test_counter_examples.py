"""The counter-examples, each in every order of its events, and each event doubled."""

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice, permutations
from typing import Any

import pytest

from consumer.billing.entitlement import entitle, is_entitled
from consumer.billing.facts import encode_facts
from consumer.billing.handlers import read_event
from consumer.decode import Decoder
from consumer.records import Record
from schemas.stripe_event import decode_route
from support.billing import PLANS, after, fold, projected
from support.stripe import BASIL, DAY, Json, body, decoded, event, subscription
from unit.billing.counter_examples import CASES, Case
from unit.billing.happenings import FROM_ACTIVE, created, deleted, failed, paid, updated

MOST_ORDERS = 720


def orders(events: list[Json]) -> Iterator[tuple[Json, ...]]:
    """Yield every order of events, or many of them where there are too many."""
    if len(events) <= 6:
        yield from permutations(events)
        return
    generator = random.Random(7)  # noqa: S311 - the same orders each time
    for _ in range(MOST_ORDERS):
        yield tuple(generator.sample(events, len(events)))


def deliveries(events: list[Json]) -> Iterable[tuple[Json, ...]]:
    """Yield every order, and a share of the orders in which each event comes twice."""
    return chain(orders(events), islice(orders(events + events), MOST_ORDERS))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counter_example(case: Case) -> None:
    """Each counter-example ends in one row, the same bytes, whatever the order."""
    texts = set()
    for events in deliveries(case.events):
        row = projected(events).row
        assert {name: getattr(row, name) for name in case.expected} == case.expected, case.truth
        texts.add(encode_facts(fold(events)["sub_1"]))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("ended_at", "started_at"), [(10, 5), (10, 10)], ids=["deleted_last", "same_second"]
)
def test_old_subscription_deleted_after_new_active(ended_at: int, started_at: int) -> None:
    """The customer has the tier of the new subscription, however late the old one ends."""
    events = [
        created("active", 0, id="sub_old", prices=("price_ent",)),
        deleted(ended_at, id="sub_old", prices=("price_ent",)),
        created("active", started_at, id="sub_new"),
    ]
    for order in permutations(events):
        rows = [Owned(name, projected(order, name).row) for name in ("sub_old", "sub_new")]
        answer = entitle("cus_1", rows, after(20), PLANS, version=1)
        assert (answer.tier, answer.entitled, answer.status) == ("pro", True, "active")


class Owned:
    """A row with its subscription's id, as it stands in the table."""

    def __init__(self, subscription_id: str, row: Any) -> None:
        self.subscription_id = subscription_id
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)


def test_grace_of_a_replayed_failure_is_over() -> None:
    """A failure replayed a week later gives no access again."""
    row = projected([failed(10), failed(10 + 7 * DAY)]).row
    owned = Owned("sub_1", row)
    assert is_entitled(owned, after(10 + DAY - 1))
    assert not is_entitled(owned, after(10 + DAY))


def test_invoice_without_subscription() -> None:
    """An invoice of no subscription is no fact and makes no row."""
    reading = read_event(decoded(paid(5, subscription=None)))
    assert reading.fact is None
    assert fold([paid(5, subscription=None)]) == {}


def test_repartition_midstream() -> None:
    """Half the events here, half there, then all of them both: the same bytes."""
    events = [failed(5), updated("past_due", 6, FROM_ACTIVE), paid(9), created("active", 1)]
    whole = encode_facts(fold(events)["sub_1"])
    first = fold(events[:2])["sub_1"]
    assert encode_facts(fold([*events[2:], *events], first)["sub_1"]) == whole


def test_older_than_30_days() -> None:
    """The whole history replayed from an archive leaves the same bytes."""
    events = [created("active", 0), *(failed(n * DAY) for n in range(1, 5)), paid(9 * DAY)]
    once = fold(events)["sub_1"]
    assert encode_facts(fold(reversed(events), once)["sub_1"]) == encode_facts(once)


def test_both_shapes() -> None:
    """A history rendered before basil and as basil gives equal rows."""

    def history(*, basil: bool) -> list[Json]:
        """Return one life in one shape."""
        return [
            created("active", 1, basil=basil, latest_invoice="in_1"),
            paid(2, reason="subscription_create", basil=basil),
            failed(100, "in_2", issued=1_700_000_090, basil=basil),
        ]

    assert projected(history(basil=True)).row == projected(history(basil=False)).row


def test_same_id_two_renderings() -> None:
    """A known id in another rendering is counted, and the first one stands."""
    first = updated("active", 5, {"status": "trialing"}, latest_invoice="in_1")
    second = first | {"api_version": BASIL, "data": {"object": subscription("past_due")}}
    records = [
        Record("stripe.events", 0, offset, b"cus_1", body(rendering), datetime.now(UTC))
        for offset, rendering in enumerate([first, second])
    ]
    found = Decoder(None).decode(records)
    assert found.second_renderings == [first["id"]]
    assert [incoming.event.object["status"] for incoming in found.events] == ["active"]


def test_test_mode_twin() -> None:
    """The door can tell the twin of the other mode by its body, so the two never mix."""
    twins = [event("invoice.paid", {}, 5, id="evt_twin", livemode=mode) for mode in (True, False)]
    assert [decode_route(body(twin)).livemode for twin in twins] == [True, False]
