"""Pruning early equals never pruning: on random sets from a domain small enough to collide."""

from random import Random
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from consumer.billing.facts import (
    Checkout,
    Fact,
    FactSet,
    Invoice,
    Price,
    Snapshot,
    State,
    decode_facts,
    encode_facts,
)
from consumer.billing.merge import merge, prune
from consumer.billing.projection import project
from support.billing import GRACE, PLANS
from support.proving import Proof, examples, search

SECONDS = range(4)
IDS = ("evt_a", "evt_b", "evt_c")
INVOICES = {"in_a": 1, "in_b": 1, "in_c": 2, "in_d": 3}
"""Each with its time of issue, which never changes for one invoice: the law needs that."""

STATUSES = ("active", "past_due", "canceled", "incomplete_expired")


def state(status: str, *, flag: bool = False) -> State:
    """Return a tracked state."""
    return State(status, (Price("price_pro"),), None, flag, None, "in_a", None, pending=False)


STATES = [state(status) for status in STATUSES[:2]] + [state("active", flag=True)]


def draw_fact(random: Random) -> Fact:
    """Return a fact of any kind; an ended one is rare, as it drops all others."""
    at, name, kind = random.choice(SECONDS), random.choice(IDS), random.random()
    if kind < 0.04:
        return Snapshot(at, name, None, state(random.choice(STATUSES[2:])))
    if kind < 0.4:
        return Snapshot(at, name, random.choice([None, *STATES]), random.choice(STATES))
    if kind < 0.8:
        invoice = random.choice(tuple(INVOICES))
        paid = random.random() < 0.4
        says = "active" if paid else "past_due"
        return Invoice(invoice, INVOICES[invoice], paid, at, name, says, (), None)
    settled = random.random() < 0.5
    return Checkout(settled, at, name, "active" if settled else "incomplete")


def draw_set(random: Random) -> FactSet:
    """Return up to eight facts."""
    return frozenset(draw_fact(random) for _ in range(random.randint(0, 8)))


def tiny(facts: FactSet) -> FactSet:
    """Prune with limits as small as the domain."""
    return prune(facts, window=1, invoices_kept=2)


def check_law(a: FactSet, b: FactSet, c: FactSet) -> None:
    """Hold three sets against the law and what follows from it."""
    assert tiny(tiny(a) | b) == tiny(a | b)
    assert tiny(tiny(a | b) | c) == tiny(a | tiny(b | c)) == tiny(a | b | c)
    assert tiny(tiny(a)) == tiny(a)
    assert tiny(a | a) == tiny(a)


def test_law_on_many_triples(proof: Proof) -> None:
    """A dropped fact stays dropped whatever comes, in every grouping of three sets."""
    random, triples = proof.random, examples(100_000, 25_000)
    for _ in proof.track(range(triples), triples):
        check_law(draw_set(random), draw_set(random), draw_set(random))
        proof.count(triples=1)


facts = st.randoms(use_true_random=False).map(draw_fact)
fact_sets = st.frozensets(facts, max_size=8)


@search(2_000, 200)
@given(fact_sets, fact_sets, fact_sets)
def test_law(proof: Proof, a: FactSet, b: FactSet, c: FactSet) -> None:
    """The same law where the search looks for the smallest set that breaks it."""
    check_law(a, b, c)
    assert merge(a, b) == merge(b, a) == prune(a | b)
    proof.count(triples=1)


@search(2_000, 200)
@given(fact_sets, st.randoms(use_true_random=False))
def test_equal_sets_are_equal_bytes(proof: Proof, found: FactSet, random: Random) -> None:
    """What is stored depends on the set alone, and is read back as it was."""
    shuffled = random.sample(sorted(found, key=repr), len(found))
    text = encode_facts(frozenset(shuffled))
    assert text == encode_facts(found)
    assert decode_facts(text) == found
    proof.count(sets=1)


def test_order_in_memory_does_not_matter(proof: Proof) -> None:
    """A set is pruned and projected the same in every process, wherever its facts lie in memory."""
    random, sets = proof.random, examples(20_000, 3_000)
    for found in proof.track((draw_set(random) for _ in range(sets)), sets):
        kept = prune(found)
        assert prune(shuffle(found, random)) == kept
        if kept:
            assert project(shuffle(kept, random), PLANS, GRACE) == project(kept, PLANS, GRACE)
        proof.count(sets=1)


def shuffle(facts: FactSet, random: Random) -> FactSet:
    """Return facts in an order that a set may have in another process."""
    return cast("FactSet", tuple(random.sample(sorted(facts, key=repr), len(facts))))
