"""Words for closed sets: every rule, reason and rank that the core can name has its sentence."""

from datetime import datetime, timedelta

import pytest

from consumer.billing.entitlement import Outranked
from consumer.billing.handlers import NoFact
from consumer.billing.outcome import Unchanged
from consumer.billing.projection import Rule, project
from consumer.storage.dead_letters import Reason as SetAside
from ops.explain.words import OUTRANKED, WHY_NOTHING, distance, duration, ground
from support.billing import GRACE, PLANS, after, fold
from support.stripe import DAY, T0, Json
from unit.billing.happenings import completed, created, deleted, failed, paid, updated

OPENED = created("active", 1, latest_invoice="in_1")
FAILURE = failed(100, "in_2", issued=T0 + 90)

SENTENCES: list[tuple[Rule, list[Json], str]] = [
    (Rule.ENDED, [OPENED, deleted(10)], "It ended on 14 Nov 2023 22:13 UTC: Stripe said canceled"),
    (Rule.LATEST_SNAPSHOT, [OPENED], "Stripe's latest word on it is active, of 14 Nov 2023 22:13"),
    (Rule.JUDGED_INVOICE, [OPENED, paid(5)], "The invoice that counts is in_1; it was paid on"),
    (Rule.JUDGED_INVOICE, [OPENED, FAILURE], "counts is in_2; its payment first failed on 14 Nov"),
    (Rule.INVOICE_PRICES, [paid(5)], "Its plan and period are those of invoice in_1"),
    (Rule.SETTLED_CHECKOUT, [completed(5)], "makes an incomplete subscription active."),
    (Rule.PAID, [updated("past_due", 10, latest_invoice="in_1"), paid(5)], "makes it active"),
    (Rule.FAILED, [OPENED, FAILURE], "news to Stripe's latest word, which makes it past due"),
    (Rule.GRACE, [OPENED, FAILURE], "is 24 h from that first failure, to 15 Nov 2023 22:15 UTC"),
    (Rule.MAPPED_TIER, [OPENED], "The plans file gives pro to price_pro."),
    (Rule.MAPPED_TIER, [created("active", 1, prices=("price_pro", "price_x", "price_ent"))],
     "enterprise is the highest tier that the plans file gives to price_ent, price_pro and"),
    (Rule.UNMAPPED_TIER, [created("active", 1, prices=("price_x", "price_y"))],
     "does not know price_x or price_y, so its metadata.tier or else the default gives starter"),
    (Rule.UNMAPPED_TIER, [completed(5)], "No price is known, so"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "events", "words"), SENTENCES)
def test_every_rule_has_a_sentence(rule: Rule, events: list[Json], words: str) -> None:
    """A rule is told with what it decided by, and names no fact that it did not."""
    facts = fold(events)["sub_1"]
    projection = project(facts, PLANS, GRACE)
    known = {fact.id: fact for fact in facts}
    said = {r.rule: ground(r, known, projection.row) for r in projection.reasons}
    assert words in said[rule].sentence
    assert said[rule].events == next(r.facts for r in projection.reasons if r.rule == rule)


def test_no_rule_is_forgotten() -> None:
    """The table above holds every rule that a projection can name."""
    assert {rule for rule, _, _ in SENTENCES} == set(Rule)


def test_a_tie_is_told() -> None:
    """Whoever reads it learns that the events do not settle it."""
    facts = fold(
        [
            updated("active", 5, {"cancel_at_period_end": False}, cancel_at_period_end=True),
            updated("active", 5, {"cancel_at_period_end": True}),
        ]
    )["sub_1"]
    projection = project(facts, PLANS, GRACE)
    said = ground(projection.reasons[0], {fact.id: fact for fact in facts}, projection.row)
    assert "nothing tells which came last" in said.sentence


def test_closed_sets_are_complete() -> None:
    """Each reason that can stand in a row, and each rank, has its words."""
    assert set(OUTRANKED) == set(Outranked)
    assert set(WHY_NOTHING) == {*Unchanged, *NoFact, *SetAside}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (5 * 3600 + 720, "5 h 12 min"),
        (DAY, "24 h"),
        (2 * DAY + 3600, "2 days 1 h"),
        (19 * DAY + 3600, "19 days"),
    ],
)
def test_durations_in_two_units(seconds: int, words: str) -> None:
    """Precise enough to act on, short enough to read."""
    assert duration(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(("at", "words"), [(after(60), "in 1 min"), (after(-60), "1 min ago")])
def test_distances_have_a_direction(at: datetime, words: str) -> None:
    """Past and future read differently."""
    assert distance(at, after(0)) == words
