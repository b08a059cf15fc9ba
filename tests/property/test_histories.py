"""Whole lives of subscriptions: one state in whatever order, and the true one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from random import Random

import pytest

from consumer.billing.entitlement import entitle, is_entitled
from consumer.billing.facts import NO_FACTS, Fact, FactSet, encode_facts
from consumer.billing.handlers import read_event
from consumer.billing.merge import WINDOW_SECONDS, merge
from consumer.billing.projection import Row, project
from property.life import Life
from property.lifecycle import FIVE_TYPES, make_history
from property.profile import examples
from support.billing import GRACE, PLANS, after
from support.stripe import DAY, MONTH, Json, decoded

TIERS = {"price_starter": "starter", "price_pro": "pro", "price_ent": "enterprise"}


@dataclass(frozen=True)
class Owned:
    """What entitlement reads of a row."""

    subscription_id: str
    row: Row

    @property
    def status(self) -> str:
        """As the row says."""
        return self.row.status

    @property
    def tier(self) -> str:
        """As the row says."""
        return self.row.tier

    @property
    def current_period_end(self) -> datetime | None:
        """As the row says."""
        return self.row.current_period_end

    @property
    def grace_until(self) -> datetime | None:
        """As the row says."""
        return self.row.grace_until


def facts_of(events: Iterable[Json]) -> list[Fact]:
    """Return the facts of events, in their order."""
    return [fact for item in events if (fact := read_event(decoded(item)).fact) is not None]


def fold(facts: Iterable[Fact]) -> FactSet:
    """Merge facts one by one."""
    known = NO_FACTS
    for fact in facts:
        known = merge(known, frozenset({fact}))
    return known


def lives(count: int, *, exact: bool = True, seed: int = 0) -> Iterator[Life]:
    """Yield so many lives."""
    found = (life for n in range(seed, seed + count) for life in make_history(n, exact=exact))
    return islice(found, count)


def every_order(facts: Sequence[Fact], known: FactSet = NO_FACTS) -> Iterator[str]:
    """Yield the state after each order of facts; orders share the merges they begin with."""
    if not facts:
        yield encode_facts(known)
    for place, fact in enumerate(facts):
        rest = [*facts[:place], *facts[place + 1 :]]
        yield from every_order(rest, merge(known, frozenset({fact})))


def test_every_order_of_short_histories() -> None:
    """Each order of the same five to seven facts leaves the same bytes."""
    checked = 0
    wanted = examples(200, 40)
    longest = examples(7, 6)
    for life in lives(20 * wanted, exact=False):
        facts = facts_of(life.events)[-longest:]
        if len(facts) < 5:
            continue
        assert len(set(every_order(facts))) == 1, life.events
        checked += 1
        if checked == wanted:
            break
    assert checked == wanted


def test_any_delivery() -> None:
    """Shuffled, doubled, batched, and split between two that merge: the same bytes."""
    random = Random(2)  # noqa: S311 - the same deliveries each time
    for life in lives(examples(5_000, 500), exact=False):
        facts = facts_of(life.events)
        whole = encode_facts(fold(facts))
        for _ in range(8):
            assert encode_facts(deliver(facts, random)) == whole, life.events


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
@pytest.mark.parametrize("exact", [True, False], ids=["exact_stamps", "stamps_off_by_one"])
def test_truth(exact: bool, five: bool) -> None:  # noqa: FBT001 - a table's columns
    """Status, grace and access are Stripe's; only a loop in a window can hide a flag or plan."""
    right_tiers = []
    for seed in range(examples(5_000, 1_000)):
        history = make_history(seed, exact=exact)
        rows = [check_life(life, exact=exact, five=five) for life in history]
        now = after(max(life.now for life in history) + 3600)
        answer = entitle("cus_1", [row for row in rows if row], now, PLANS, version=1)
        is_right = answer.tier == true_tier(history)
        assert is_right or any(life.has_loop for life in history)
        right_tiers.append(is_right)
    assert sum(right_tiers) / len(right_tiers) >= 0.998


def check_life(life: Life, *, exact: bool, five: bool) -> Owned | None:
    """Hold a row against the truth; returns it, or None where no event told of it."""
    facts = facts_of(e for e in life.events if not five or e["type"] in FIVE_TYPES)
    if not facts:
        return None
    row = project(fold(facts), PLANS, GRACE).row
    grace = None if life.grace_from is None else after(life.grace_from + DAY)
    assert (row.status, row.grace_until) == (life.status, grace), life.events
    owned = Owned(life.id, row)
    assert is_entitled(owned, after(life.now + 3600)) == truly_entitled(life)
    whole_row_right = (row.prices, row.cancel_at_period_end) == ((life.price,), life.cancelling)
    assert whole_row_right or life.has_loop, life.events
    assert whole_row_right or row.ambiguous or not exact, life.events
    return owned


def truly_entitled(life: Life) -> bool:
    """Tell whether a subscription gives access an hour after its last event."""
    if life.status in {"active", "trialing"}:
        return True
    return life.grace_from is not None and life.now + 3600 < life.grace_from + DAY


def true_tier(history: Sequence[Life]) -> str:
    """Return the tier that a customer has at the latest time of any subscription."""
    now = max(life.now for life in history)
    tiers = []
    for life in history:
        in_grace = life.grace_from is not None and now + 3600 < life.grace_from + DAY
        if life.status in {"active", "trialing"} or in_grace:
            tiers.append(TIERS[life.price])
    return max(tiers, key=PLANS.rank, default=PLANS.default)


def test_last_update_late() -> None:
    """With the last update of each still on its way, access is right for 99 of 100."""
    seen = right = 0
    for life in lives(examples(5_000, 2_000)):
        updates = [item for item in life.events if item["type"].endswith(".updated")]
        known = [item for item in life.events if not updates or item is not updates[-1]]
        row = project(fold(facts_of(known)), PLANS, GRACE).row
        seen += 1
        right += is_entitled(Owned(life.id, row), after(life.now + 3600)) == truly_entitled(life)
    assert right / seen >= 0.99


def test_size_of_a_set() -> None:
    """A set holds four invoices, a checkout and the snapshots of one window; an ended one, one."""
    for life in lives(examples(5_000, 200), exact=False):
        facts = facts_of(life.events)
        kept = fold(facts)
        newest = max((fact.at for fact in kept), default=0)
        stamps = [item["created"] for item in life.events if "subscription" in item["type"]]
        window = sum(stamp >= max(stamps) - WINDOW_SECONDS for stamp in stamps)
        assert newest > 0
        assert len(kept) <= 4 + 1 + window
        if life.status in {"canceled", "incomplete_expired"}:
            assert len(kept) == 1


def test_five_years_of_dunning_stay_small() -> None:
    """Sixty months with eight failures each are kept in less than 2 KB."""
    life = Life("sub_1", Random(3), basil=True, exact=True)  # noqa: S311 - no chance used
    life.status = "active"
    life.emit("customer.subscription.created", life.render())
    for _ in range(60):
        life.wait(MONTH, MONTH)
        life.open_invoice()
        life.update(period_end=life.period_end + MONTH, named_invoice=life.invoice_id)
        for _ in range(8):
            life.fail()
            life.wait(DAY, DAY)
        life.update(status="past_due")
        life.pay()
        life.update(status="active")
    facts = facts_of(life.events)
    assert len(facts) > 600
    assert len(encode_facts(fold(facts)).encode()) < 2048
