"""What one event did: why it changed nothing, and what an administrator reads of it."""

from datetime import timedelta
from typing import Any

import pytest

from consumer.billing.facts import NO_FACTS, FactSet
from consumer.billing.handlers import read_event
from consumer.billing.merge import merge
from consumer.billing.outcome import AuditEntry, Unchanged, audit_changes, why_unchanged
from consumer.billing.projection import project
from support.billing import GRACE, PLANS, fold
from support.stripe import DAY, T0, Json, decoded
from unit.billing.happenings import (
    FROM_ACTIVE,
    completed,
    created,
    deleted,
    failed,
    items_of,
    paid,
    updated,
)


def outcome(history: list[Json], last: Json) -> Unchanged | None:
    """Return why the last event changed no row, or None where it did."""
    known = fold(history)["sub_1"]
    fact = read_event(decoded(last)).fact
    assert fact is not None
    facts = merge(known, frozenset({fact}))
    projection = project(facts, PLANS, GRACE)
    if projection.row != project(known, PLANS, GRACE).row:
        return None
    return why_unchanged(fact, facts, projection)


ENDED = [deleted(10)]
TWO_INVOICES = [
    created("active", 1, latest_invoice="in_1"),
    paid(2, "in_1", issued=T0),
    paid(100, "in_2", issued=T0 + 90),
]
OUTCOMES: list[tuple[str, list[Json], Json, Unchanged | None]] = [
    ("applied", [created("active", 1)], updated("past_due", 2, FROM_ACTIVE), None),
    ("update_after_the_end", ENDED, updated("active", 12, {}), Unchanged.ALREADY_ENDED),
    ("invoice_after_the_end", ENDED, paid(12), Unchanged.ALREADY_ENDED),
    ("checkout_after_the_end", ENDED, completed(12), Unchanged.ALREADY_ENDED),
    ("earlier_end", ENDED, updated("canceled", 9, FROM_ACTIVE), Unchanged.ALREADY_ENDED),
    ("later_end", ENDED, deleted(11), Unchanged.SAME_FACT),
    ("old_snapshot", [created("active", 100)], updated("trialing", 1, {}), Unchanged.SUPERSEDED),
    ("metadata", [created("active", 1)], updated("active", 2, {"metadata": {}}),
     Unchanged.SAME_FACT),
    ("older_invoice", TWO_INVOICES, failed(3, "in_0", issued=T0 - 90),
     Unchanged.NOT_LATEST_INVOICE),
    ("late_failure_of_a_paid_invoice", [created("active", 1, latest_invoice="in_1"), paid(9)],
     failed(3), Unchanged.NOT_LATEST_INVOICE),
    ("retry", [failed(3)], failed(3 + DAY), Unchanged.NOT_LATEST_INVOICE),
    ("payment_of_an_active_one", [created("active", 1, latest_invoice="in_1")], paid(2),
     Unchanged.SAME_FACT),
    ("checkout_of_an_active_one", [created("active", 1)], completed(2), Unchanged.SAME_FACT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("history", "last", "expected"), [row[1:] for row in OUTCOMES], ids=[row[0] for row in OUTCOMES]
)
def test_outcome(history: list[Json], last: Json, expected: Unchanged | None) -> None:
    """An event that changed nothing says why, by the rule that dropped or outweighed it."""
    assert outcome(history, last) == expected


def audit(history: list[Json], last: Json) -> list[AuditEntry]:
    """Return what the last event leaves in the trail."""
    known: FactSet = fold(history)["sub_1"] if history else NO_FACTS
    fact = read_event(decoded(last)).fact
    assert fact is not None
    facts = merge(known, frozenset({fact}))
    before = project(known, PLANS, GRACE).row if known else None
    return audit_changes(before, project(facts, PLANS, GRACE).row, fact, known, facts)


ACTIVE = created("active", 1, latest_invoice="in_1")
PAST_DUE = [ACTIVE, failed(5)]
FLAG = {"cancel_at_period_end": False}
TRAIL: list[tuple[str, list[Json], Json, list[str]]] = [
    ("first_heard_of", [], ACTIVE, ["subscription_started"]),
    ("first_heard_of_at_its_end", [], deleted(5), ["subscription_started", "subscription_ended"]),
    ("first_failure", [ACTIVE], failed(5),
     ["payment_failed", "status_changed", "grace_period_started"]),
    ("retry", PAST_DUE, failed(5 + DAY), []),
    ("recovery", PAST_DUE, paid(9), ["status_changed", "grace_period_cleared"]),
    ("first_invoice_fails", [created("incomplete", 1)], failed(5, reason="subscription_create"),
     ["payment_failed"]),
    ("failure_after_payment", [ACTIVE, paid(9)], failed(5), []),
    ("failure_after_the_end", [ACTIVE, deleted(4)], failed(5), []),
    ("end", [ACTIVE], deleted(9), ["subscription_ended"]),
    ("end_in_grace", PAST_DUE, deleted(9), ["subscription_ended", "grace_period_cleared"]),
    ("tier", [ACTIVE], updated("active", 9, items_of("price_pro"), prices=("price_ent",)),
     ["tier_changed"]),
    ("price_of_the_same_tier", [created("active", 1, prices=("price_pro",))],
     updated("active", 9, items_of("price_pro"), prices=("addon", "price_pro")), []),
    ("renewal", [ACTIVE], updated("active", 9, {}, period_end=T0 + 60 * DAY), ["period_renewed"]),
    ("cancel", [ACTIVE], updated("active", 9, FLAG, cancel_at_period_end=True),
     ["cancellation_scheduled"]),
    ("cancel_at", [ACTIVE], updated("active", 9, {"cancel_at": None}, cancel_at=T0 + DAY),
     ["cancellation_scheduled"]),
    ("cancel_withdrawn", [created("active", 1, cancel_at_period_end=True)],
     updated("active", 9, {"cancel_at_period_end": True}), ["cancellation_withdrawn"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("history", "last", "actions"), [row[1:] for row in TRAIL], ids=[row[0] for row in TRAIL]
)
def test_actions(history: list[Json], last: Json, actions: list[str]) -> None:
    """One entry a change, the warning first, and none where nothing changed."""
    assert [entry.action for entry in audit(history, last)] == actions


def test_entries_hold_only_what_changed() -> None:
    """Before and after name just the fields that changed, in words that JSON can hold."""
    expected: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("payment_failed", {}, {"invoice": "in_1"}),
        ("status_changed", {"status": "active"}, {"status": "past_due"}),
        ("grace_period_started", {"grace_until": None}, {"grace_until": "2023-11-15T22:13:25Z"}),
    ]
    assert audit([ACTIVE], failed(5)) == [AuditEntry(*entry) for entry in expected]


def test_reasons_name_rules_and_events() -> None:
    """A projection tells by which facts each rule decided, so that nobody has to guess."""
    opened = created("active", 1, latest_invoice="in_1")
    failure = failed(100, "in_2", issued=T0 + 90)
    settled = completed(4)

    def reasons(*events: Json) -> list[tuple[str, tuple[str, ...]]]:
        found = project(fold(events)["sub_1"], PLANS, GRACE).reasons
        return [(reason.rule, reason.facts) for reason in found]

    assert reasons(opened, failure) == [
        ("P2_latest_snapshot", (opened["id"],)),
        ("P3_judged_invoice", (failure["id"],)),
        ("P7_failed", (failure["id"],)),
        ("P8_grace", (failure["id"],)),
        ("P9_mapped_tier", ()),
    ]
    assert reasons(settled) == [
        ("P5_settled_checkout", (settled["id"],)),
        ("P9_unmapped_tier", ()),
    ]
    assert [rule for rule, _ in reasons(paid(3))] == [
        "P3_judged_invoice",
        "P4_invoice_prices",
        "P9_mapped_tier",
    ]
    end = deleted(10)
    assert reasons(opened, failure, end)[0] == ("P1_ended", (end["id"],))


def test_grace_is_a_setting() -> None:
    """Grace lasts as long as it is told to, and never past the last second that can be stored."""
    facts = fold([failed(5)])["sub_1"]
    short, long = (
        project(facts, PLANS, grace).row.grace_until
        for grace in (timedelta(hours=1), timedelta(days=365 * 9000))
    )
    assert short is not None
    assert long is not None
    assert (short.timestamp(), long.year) == (T0 + 5 + 3600, 9999)
