"""The counter-examples, each in every order of its events, and each event doubled."""

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, combinations, permutations
from typing import Any, TypeVar

import pytest

from consumer.billing.entitlement import entitle, is_entitled
from consumer.billing.facts import NO_FACTS, Fact, FactSet, Snapshot, encode_facts
from consumer.billing.handlers import read_event
from consumer.billing.merge import merge
from consumer.billing.projection import project
from consumer.decode import Decoder
from consumer.records import Record
from schemas.stripe_event import decode_route
from support.billing import GRACE, PLANS, after, every_order, fold, projected
from support.stripe import BASIL, DAY, Json, body, decoded, event, subscription
from unit.billing.counter_examples import CASES, Case
from unit.billing.happenings import FROM_ACTIVE, completed, created, deleted, failed, paid, updated

T = TypeVar("T")

DOUBLED_ORDERS = 240
"""Of the orders in which each event comes twice there are too many to look at each."""


def told(events: Iterable[Json], subscription: str = "sub_1") -> list[Fact]:
    """Return the facts that events tell of a subscription."""
    readings = [read_event(decoded(document)) for document in events]
    return [one.fact for one in readings if one.fact and one.subscription == subscription]


def doubled(events: Sequence[T]) -> Iterator[list[T]]:
    """Yield many of the orders in which each event comes twice."""
    generator = random.Random(7)  # noqa: S311 - the same orders each time
    twice = [*events, *events]
    return (generator.sample(twice, len(twice)) for _ in range(DOUBLED_ORDERS))


def deliveries(events: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield every order, and many in which each event comes twice."""
    return chain(permutations(events), doubled(events))


def the_one_state(facts: Sequence[Fact]) -> FactSet:
    """Return the state after every order of facts, and after doubled ones, as there is but one."""
    found = set(every_order(facts))
    for order in doubled(facts):
        known = NO_FACTS
        for fact in order:
            known = merge(known, frozenset({fact}))
        found.add(known)
    assert len(found) == len(set(map(encode_facts, found))) == 1
    return found.pop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counter_example(case: Case) -> None:
    """Each counter-example ends in one row, the same bytes, whatever the order."""
    row = project(the_one_state(told(case.events)), PLANS, GRACE).row
    assert {name: getattr(row, name) for name in case.expected} == case.expected, case.truth


def check_customer(events: Sequence[Json], old: str, new: str) -> None:
    """See that the end of one subscription takes nothing from the other, in whatever order."""
    for order in deliveries(events):
        rows = [Owned(name, projected(order, name).row) for name in (old, new)]
        answer = entitle("cus_1", rows, after(20), PLANS, version=1)
        assert (answer.tier, answer.entitled, answer.status) == ("pro", True, "active")
        assert (rows[0].status, rows[1].status) == ("canceled", "active")


def test_old_subscription_deleted_after_new_active() -> None:
    """The customer has the tier of the new subscription, however late the old one ends."""
    events = [
        created("active", 0, id="sub_old", prices=("price_ent",)),
        deleted(10, id="sub_old", prices=("price_ent",)),
        created("active", 5, id="sub_new"),
    ]
    check_customer(events, "sub_old", "sub_new")


def test_bought_again_in_the_second_of_deletion() -> None:
    """Bought again in the second in which the old one ends: the new one counts."""
    events = [
        created("active", 0, id="sub_old", prices=("price_ent",)),
        deleted(10, id="sub_old", prices=("price_ent",)),
        created("active", 10, id="sub_new"),
    ]
    check_customer(events, "sub_old", "sub_new")


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
    events = [paid(5, subscription=None), failed(4, subscription=None)]
    assert [read_event(decoded(document)).fact for document in events] == [None, None]
    assert all(fold(order) == {} for order in deliveries(events))


def test_async_checkout_is_not_settled_before_it_is_paid() -> None:
    """A delayed payment gives nothing until it arrives."""
    assert projected([completed(5, "unpaid")]).row.status == "incomplete"


def test_repartition_midstream() -> None:
    """Some of the events here, the others there, then all of them both: the same bytes."""
    events = [failed(5), updated("past_due", 6, FROM_ACTIVE), paid(9), created("active", 1)]
    facts = told(events)
    whole = the_one_state(facts)
    for size in range(len(facts) + 1):
        for here in combinations(facts, size):
            there = [fact for fact in facts if fact not in here]
            first, second = the_one_state(here) if here else NO_FACTS, frozenset(there)
            assert encode_facts(merge(first, second)) == encode_facts(whole)
            assert encode_facts(merge(merge(first, second), frozenset(facts))) == encode_facts(
                whole
            )


def test_older_than_30_days() -> None:
    """The whole history replayed from an archive, in any order, leaves the same bytes."""
    events = [created("active", 0), *(failed(n * DAY) for n in range(1, 5)), paid(9 * DAY)]
    facts = told(events)
    once = the_one_state(facts)
    assert {encode_facts(again) for again in every_order(facts, once)} == {encode_facts(once)}


def test_both_shapes() -> None:
    """A history rendered before basil and as basil gives equal rows, in every order."""

    def history(*, basil: bool) -> list[Json]:
        """Return one life in one shape."""
        return [
            created("active", 1, basil=basil, latest_invoice="in_1"),
            paid(2, reason="subscription_create", basil=basil),
            failed(100, "in_2", issued=1_700_000_090, basil=basil),
        ]

    rows = [
        project(the_one_state(told(history(basil=basil))), PLANS, GRACE).row
        for basil in (False, True)
    ]
    assert rows[0] == rows[1]


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
    facts = [incoming.reading.fact for incoming in found.events]
    assert [fact.after.status for fact in facts if isinstance(fact, Snapshot)] == ["active"]


def test_test_mode_twin() -> None:
    """The door can tell the twin of the other mode by its body, so the two never mix."""
    twins = [event("invoice.paid", {}, 5, id="evt_twin", livemode=mode) for mode in (True, False)]
    assert [decode_route(body(twin)).livemode for twin in twins] == [True, False]
