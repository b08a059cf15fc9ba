"""Whole histories of customers: one state in whatever order, and the true one."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from math import exp, factorial
from random import Random

import pytest

from consumer.billing.entitlement import entitle
from consumer.billing.facts import NO_FACTS, Fact, FactSet, Snapshot, encode_facts
from consumer.billing.handlers import read_event
from consumer.billing.merge import WINDOW_SECONDS, merge
from consumer.billing.projection import Row, project
from ops.simulator.catalogue import PLANS as SOLD
from ops.simulator.history import History
from ops.simulator.life import DAY, MONTH, Event, Life, Pace, Teller
from ops.simulator.objects import Period, Shape
from ops.simulator.truth import Answer, SubscriptionTruth
from property.world import END, PLANS, world
from schemas.stripe_event import StripeEvent, decode_event
from support.billing import GRACE, Owned, every_order
from support.proving import Proof, draw, examples

FIVE_TYPES = frozenset(
    {
        "checkout.session.completed",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "invoice.paid",
        "invoice.payment_failed",
    }
)


CROWDED = Pace(stamps_off=0.04, loops=True)
"""What Stripe may do at worst: many steps a second, stamps off by one, and ties."""

EXACT = Pace(stamps_off=0.0, loops=True)

HIDDEN_TIERS = 0.001
"""The share of customers whose tier a tie may hide; the simulator flips plans on purpose."""

SUBSCRIPTION = "sub_sim0123456789000001s0"
"""As long as an id of Stripe's."""


def told(events: Iterable[Event]) -> dict[str, list[tuple[StripeEvent, Fact]]]:
    """Return what events say of each subscription, in their order."""
    found: dict[str, list[tuple[StripeEvent, Fact]]] = {}
    for item in events:
        event = decode_event(item.body)
        reading = read_event(event)
        if reading.subscription is not None and reading.fact is not None:
            found.setdefault(reading.subscription, []).append((event, reading.fact))
    return found


def fold(facts: Iterable[Fact]) -> FactSet:
    """Merge facts one by one."""
    known = NO_FACTS
    for fact in facts:
        known = merge(known, frozenset({fact}))
    return known


def facts_of(history: History) -> Iterator[list[Fact]]:
    """Yield the facts of each subscription of a customer."""
    for told_of_one in told(history.events).values():
        yield [fact for _, fact in told_of_one]


def all_facts(customers: int) -> Iterator[list[Fact]]:
    """Yield the facts of each subscription of so many customers."""
    return chain.from_iterable(map(facts_of, world("facts", CROWDED).histories(customers)))


def test_every_order_of_short_histories(proof: Proof) -> None:
    """Each order of the same five to seven facts leaves the same bytes."""
    wanted = examples(200, 40)
    longest = examples(7, 6)
    short = (facts[-longest:] for facts in all_facts(4 * wanted) if len(facts) >= 5)
    for facts in proof.track(islice(short, wanted), wanted):
        assert len(set(map(encode_facts, every_order(facts)))) == 1, facts
        proof.count(histories=1, orders=factorial(len(facts)))
    assert proof.counts["histories"] == wanted


def test_any_delivery(proof: Proof) -> None:
    """Shuffled, doubled, batched, and split between two that merge: the same bytes."""
    random, customers = proof.random, examples(5_000, 300)
    for history in proof.track(world("facts", CROWDED).histories(customers), customers):
        proof.count(histories=1, deliveries=8, events=8 * len(history.events))
        for facts in facts_of(history):
            whole = encode_facts(fold(facts))
            for _ in range(8):
                assert encode_facts(deliver(facts, random)) == whole, facts


def deliver(facts: list[Fact], random: Random) -> FactSet:
    """Return what two consumers make of facts, 30 % of them doubled, in random batches."""
    sent = facts + [fact for fact in facts if random.random() < 0.3]
    random.shuffle(sent)
    halves = [NO_FACTS, NO_FACTS]
    while sent:
        size = random.randint(1, 4)
        batch, sent = frozenset(sent[:size]), sent[size:]
        side = random.randrange(2)
        halves[side] = merge(halves[side], batch)
    return merge(*halves)


@pytest.mark.parametrize("five", [False, True], ids=["all_events", "five_types"])
@pytest.mark.parametrize("pace", [EXACT, CROWDED], ids=["exact_stamps", "stamps_off_by_one"])
def test_truth(proof: Proof, pace: Pace, five: bool) -> None:  # noqa: FBT001 - a table's columns
    """Status, grace and access are Stripe's; only a tie within seconds can hide a flag or plan."""
    customers = examples(5_000, 600)
    for history in proof.track(world("truth", pace).histories(customers), customers):
        events = [e for e in history.events if not five or e.type in FIVE_TYPES]
        facts = told(events)
        rows = [
            Owned(truth.subscription_id, check_row(truth, facts[truth.subscription_id], pace))
            for truth in history.truth.subscriptions
            if truth.subscription_id in facts
        ]
        wrong = not check_answer(history, rows, five=five)
        flagged = sum(owned.row.ambiguous for owned in rows)
        proof.count(
            customers=1, subscriptions=len(rows), flagged_as_ties=flagged, hidden_tiers=wrong
        )
    assert proof.counts["hidden_tiers"] <= most_by_chance(HIDDEN_TIERS * customers)


def most_by_chance(expected: float) -> int:
    """Return what a count of so many on average exceeds once in a billion runs (Poisson)."""
    share = missing = exp(-expected)
    count = 0
    while 1 - missing > 1e-9:
        count += 1
        share *= expected / count
        missing += share
    return count


def check_row(
    truth: SubscriptionTruth, found: Sequence[tuple[StripeEvent, Fact]], pace: Pace
) -> Row:
    """Hold a row against the truth, and return it."""
    row = project(fold(fact for _, fact in found), PLANS, GRACE).row
    assert (row.status, seconds(row.grace_until)) == (truth.status, truth.grace_until()), truth
    is_right = whole_row(row) == (
        truth.tier,
        truth.prices,
        truth.cancel_at_period_end,
        truth.cancel_at,
        truth.period_end,
    )
    assert is_right or truth.is_tie, (truth, row)
    assert is_right or row.ambiguous or pace.stamps_off, (truth, row)
    return row


def whole_row(row: Row) -> tuple[object, ...]:
    """Return the columns that a tie may hide."""
    cancel_at, period_end = seconds(row.cancel_at), seconds(row.current_period_end)
    return row.tier, row.prices, row.cancel_at_period_end, cancel_at, period_end


def check_answer(history: History, rows: Sequence[Owned], *, five: bool) -> bool:
    """Hold a customer's answer against the truth; returns whether the tier is right."""
    true = history.truth
    for now in (END, END + DAY):
        found = entitle("cus_1", rows, datetime.fromtimestamp(now, UTC), PLANS, version=1)
        wanted = true.answer(now)
        answer = Answer(found.tier, found.entitled, found.status, seconds(found.grace_until))
        if answer != wanted:
            is_tie = any(truth.is_tie for truth in true.subscriptions)
            # Of the five types none tells of a subscription that was never updated nor paid.
            is_untold = five and len(rows) < len(true.subscriptions)
            assert is_tie or is_untold, (wanted, answer)
            assert answer.entitled == wanted.entitled, (wanted, answer)
            return answer.tier == wanted.tier
    return True


def seconds(moment: datetime | None) -> int | None:
    """Return a moment as Stripe writes it."""
    return None if moment is None else int(moment.timestamp())


def test_last_update_late(proof: Proof) -> None:
    """With the last update of each still on its way, access is right for 99 of 100."""
    customers = examples(5_000, 1_000)
    for history in proof.track(world("late", CROWDED).histories(customers), customers):
        facts = told(history.events)
        for truth in history.truth.subscriptions:
            found = facts[truth.subscription_id]
            updates = [event.id for event, _ in found if event.type.endswith(".updated")]
            known = [fact for event, fact in found if not updates or event.id != updates[-1]]
            row = Owned(truth.subscription_id, project(fold(known), PLANS, GRACE).row)
            answer = entitle("cus_1", [row], datetime.fromtimestamp(END, UTC), PLANS, version=1)
            wrong = answer.entitled != truth.is_entitled(END)
            proof.count(subscriptions=1, wrong_for_now=wrong)
    assert proof.counts["wrong_for_now"] <= proof.counts["subscriptions"] / 100


def test_size_of_a_set(proof: Proof) -> None:
    """A set holds four invoices, a checkout and the snapshots of one window; an ended one, one."""
    customers = examples(5_000, 200)
    for history in proof.track(world("facts", CROWDED).histories(customers), customers):
        for facts in facts_of(history):
            kept = fold(facts)
            stamps = [fact.at for fact in facts if isinstance(fact, Snapshot)]
            window = sum(stamp >= max(stamps) - WINDOW_SECONDS for stamp in stamps)
            assert 0 < len(kept) <= 4 + 1 + window
            if any(isinstance(fact, Snapshot) and fact.is_ended for fact in facts):
                assert len(kept) == 1
            proof.count(sets=1)


@pytest.mark.parametrize("shape", Shape)
def test_five_years_of_dunning_stay_small(proof: Proof, shape: Shape) -> None:
    """Sixty months with eight failures each are kept in less than 2 KB."""
    lives = examples(50, 1)
    for number in proof.track(range(lives), lives):
        random = draw(f"{proof.name}{number}")
        facts = [fact for _, fact in told(five_years(shape, random))[SUBSCRIPTION]]
        assert len(facts) > 600
        assert len(encode_facts(fold(facts)).encode()) < 2048
        proof.count(lives=1, facts=len(facts))


def five_years(shape: Shape, random: Random) -> list[Event]:
    """Return a life of sixty months, each with eight failures before it is paid."""
    teller = Teller("cus_sim0123456789000001", shape, CROWDED, random)
    plan = random.choice(SOLD)
    life = Life(SUBSCRIPTION, teller, END, plan, has_add_on=True, reference=None, status="active")
    life.begin(MONTH)
    life.tell("created")
    for _ in range(60):
        life.now = life.period.end
        life.open_invoice("subscription_cycle")
        period = Period(life.now, life.now + MONTH)
        life.update(period=period, named_invoice=life.invoice_id)
        for _ in range(8):
            life.fail()
            life.wait(DAY, DAY)
        life.update(status="past_due")
        life.pay()
        life.update(status="active")
    return teller.events
