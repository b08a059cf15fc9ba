"""What Stripe's API answers, as facts: what it says, from when on, and when it says nothing new."""

from dataclasses import replace

import msgspec
import pytest

from consumer.billing.facts import NO_FACTS, FactSet, Invoice, Snapshot
from consumer.billing.merge import WINDOW_SECONDS, merge
from consumer.billing.projection import Row, project
from consumer.fetched import (
    Fetched,
    read_failure,
    read_fetched,
    read_old_failure,
    tells_nothing_new,
)
from schemas.stripe_event import BadEvent
from support.billing import GRACE, PLANS, fold
from support.stripe import DAY, T0, Json, checkout, event, invoice, subscription

AT = T0 + DAY
ACTIVE = subscription(latest_invoice=None)
FAILED = invoice(id="in_2", issued=T0) | {
    "attempted": True,
    "status_transitions": {"finalized_at": T0 + 60},
}
OVERDUE = subscription("past_due", latest_invoice=FAILED)


def row(facts: FactSet) -> Row:
    """Return the row of a set of facts."""
    return project(facts, PLANS, GRACE).row


def test_a_subscription_is_one_snapshot_that_changes_nothing() -> None:
    """It bears the second of the answer, an id that no event has, and no state before."""
    fetched = read_fetched(ACTIVE, AT)
    (fact,) = fetched.facts
    assert isinstance(fact, Snapshot)
    assert (fact.at, fact.id, fact.before) == (AT, f"fetch_{AT}", None)
    assert (fetched.customer, fetched.subscription, fetched.id) == ("cus_1", "sub_1", fact.id)
    assert int(fetched.created_at.timestamp()) == AT


def test_a_paid_latest_invoice_is_read_with_its_subscription() -> None:
    """An expanded invoice that is paid tells so; one that is open says of itself no failure."""
    paid = read_fetched(subscription(latest_invoice=invoice("paid")), AT).facts
    assert {type(fact) for fact in paid} == {Snapshot, Invoice}
    unpaid = read_fetched(subscription(latest_invoice=invoice("open")), AT).facts
    assert {type(fact) for fact in unpaid} == {Snapshot}


@pytest.mark.parametrize("basil", [False, True])
def test_an_invoice_of_another_subscription_is_not_taken(*, basil: bool) -> None:
    """What Stripe expands must be of the subscription itself, in either shape."""
    other = invoice("paid", subscription="sub_2", basil=basil)
    facts = read_fetched(subscription(latest_invoice=other, basil=basil), AT).facts
    assert {type(fact) for fact in facts} == {Snapshot}


def test_failures_of_the_latest_invoice_alone_begin_the_grace_period() -> None:
    """Of the failures that are known, those of an older invoice say nothing of now."""
    told = read_failure(event("invoice.payment_failed", FAILED, 3600, id="evt_f"))
    assert told is not None
    name, failure = told
    assert (name, failure.at, failure.id) == ("sub_1", T0 + 3600, "evt_f")
    old = msgspec.structs.replace(failure, invoice="in_1")
    facts = read_fetched(OVERDUE, AT, [old, failure]).facts
    assert {fact.invoice for fact in facts if isinstance(fact, Invoice)} == {"in_2"}
    assert row(facts).grace_until is not None
    assert row(read_fetched(OVERDUE, AT, [old]).facts).grace_until is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"id": "evt_1", "created": T0, "data": None},
        {"id": "evt_1", "created": "now", "data": {"object": FAILED}},
        {"created": T0, "data": {"object": FAILED}},
        event("invoice.payment_failed", invoice(subscription=None)),
        event("invoice.payment_failed", invoice("open", reason="manual")),
        event("customer.subscription.updated", ACTIVE),
    ],
)
def test_what_tells_of_no_failure_is_none(document: Json) -> None:
    """A list of Stripe's may hold anything; what is no failure of a subscription is left out."""
    assert read_failure(document) is None


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ({}, T0 + 60),
        ({"status": "uncollectible"}, T0 + 60),
        ({"status_transitions": {"finalized_at": None}}, T0),
        ({"status_transitions": None}, T0),
        ({"attempted": False}, None),
        ({"status": "paid"}, None),
        ({"status": "draft"}, None),
        ({"status": "void"}, None),
        ({"status_transitions": None, "created": None}, None),
    ],
)
def test_a_failure_whose_event_is_gone_counts_since_the_invoice_was_due(
    fields: Json, since: int | None
) -> None:
    """Of an unpaid invoice that was tried: since it was finalized, else made; of others: none."""
    found = read_old_failure(FAILED | fields, AT)
    assert (None if found is None else found.at) == since


@pytest.mark.parametrize("status", ["active", "past_due", "canceled"])
def test_an_event_in_the_second_after_the_answer_is_not_hidden(status: str) -> None:
    """The answer bears a second that it surely holds: what happened in the next one stays."""
    kind = "deleted" if status == "canceled" else "updated"
    document = event(
        f"customer.subscription.{kind}",
        subscription(status),
        DAY + 1,
        previous={"status": "trialing"},
    )
    known = fold([document])["sub_1"]
    answer = read_fetched(subscription("trialing"), AT)
    assert row(merge(known, answer.facts)).status == status
    assert row(merge(answer.facts, known)).status == status


def test_an_older_answer_that_is_merged_later_changes_nothing() -> None:
    """Two processes that asked may write in the other order: the newer answer stays."""
    older = read_fetched(subscription("trialing"), AT - WINDOW_SECONDS - 1).facts
    newer = read_fetched(ACTIVE, AT).facts
    assert merge(newer, older) == merge(older, newer) == newer


def same(fetched: Fetched, later: int) -> Fetched:
    """Return the same answer, given later."""
    facts = [
        msgspec.structs.replace(f, at=f.at + later, id=f"fetch_{f.at + later}")
        if isinstance(f, Snapshot)
        else f
        for f in fetched.facts
    ]
    return replace(fetched, at=fetched.at + later, facts=frozenset(facts))


ASKED = read_fetched(ACTIVE, AT)
TRIALING = subscription("trialing")
CANCELED = subscription("canceled")
PAID = subscription(latest_invoice=invoice("paid", id="in_3"))
TOLD = fold([event("customer.subscription.updated", ACTIVE, DAY - 60)])["sub_1"]
ENDED = fold([event("customer.subscription.deleted", CANCELED, DAY - 60)])["sub_1"]
TIED = fold(
    [
        event("customer.subscription.updated", ACTIVE, DAY, id="evt_a"),
        event("customer.subscription.updated", TRIALING, DAY, id="evt_b"),
    ]
)["sub_1"]

NOTHING_NEW: dict[str, tuple[FactSet, Fetched, bool]] = {
    "nobody has heard of it": (NO_FACTS, ASKED, False),
    "the same answer again": (ASKED.facts, ASKED, True),
    "the same, a day later": (ASKED.facts, same(ASKED, DAY), True),
    "another state, a day later": (ASKED.facts, same(read_fetched(TRIALING, AT), DAY), False),
    "the same, of which an event told": (TOLD, ASKED, False),
    "an end of which an event told": (ENDED, read_fetched(CANCELED, AT), True),
    "one of two states of the same second": (TIED, read_fetched(ACTIVE, T0 + DAY), False),
    "paid, and nobody knew": (ASKED.facts, read_fetched(PAID, AT), False),
    "paid, as is known": (read_fetched(PAID, AT).facts, read_fetched(PAID, AT), True),
    "a customer, of whom nothing is kept as a fact": (
        ASKED.facts,
        read_fetched({"object": "customer", "id": "cus_1"}, AT),
        True,
    ),
}


@pytest.mark.parametrize("name", NOTHING_NEW)
def test_an_answer_that_says_nothing_new_is_known_as_such(name: str) -> None:
    """A backfill that is run twice writes nothing twice, and what events said is replaced once."""
    known, fetched, expected = NOTHING_NEW[name]
    assert tells_nothing_new(known, fetched) is expected


def test_a_checkout_and_a_customer_tell_the_reference() -> None:
    """The application's own id stands in a completed checkout, or in a customer's metadata."""
    told = read_fetched(checkout(client_reference_id="user_7"), AT)
    assert (told.customer, told.reference) == ("cus_1", "user_7")
    customer = {"object": "customer", "id": "cus_1", "metadata": {"reference": "user_8"}}
    assert read_fetched(customer, AT).reference == "user_8"


@pytest.mark.parametrize(
    "obj",
    [
        subscription(customer=None),
        subscription("active\0"),
        subscription(id="sub_\ud800"),
    ],
    ids=["nobody's", "with a zero byte", "with half a character"],
)
def test_what_cannot_be_read_or_stored_is_one_error(obj: Json) -> None:
    """One bad object of a page is told by BadEvent, whatever is wrong with it."""
    with pytest.raises(BadEvent):
        read_fetched(obj, AT)
