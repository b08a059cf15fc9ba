"""What a customer may use at a moment, from rows."""

import json
from dataclasses import dataclass
from datetime import datetime

import pytest

from consumer.billing.entitlement import (
    Outranked,
    entitle,
    find_deciding,
    is_entitled,
    why_outranked,
)
from schemas.entitlement import Entitlement
from support.billing import PLANS, after


@dataclass(frozen=True)
class Owned:
    """A row with just what entitlement reads."""

    subscription_id: str
    status: str
    tier: str = "pro"
    current_period_end: datetime | None = None
    grace_until: datetime | None = None


STATUSES = [
    ("active", True),
    ("trialing", True),
    ("past_due", False),
    ("incomplete", False),
    ("incomplete_expired", False),
    ("unpaid", False),
    ("paused", False),
    ("canceled", False),
    ("unknown", False),
    ("invented_tomorrow", False),
]


@pytest.mark.parametrize(("status", "expected"), STATUSES)
def test_status(status: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """Only what is known to give access does, whatever the period's end."""
    row = Owned("sub_1", status, current_period_end=after(-100))
    assert is_entitled(row, after(0)) is expected


@pytest.mark.parametrize(("now", "expected"), [(-1, True), (0, False), (1, False)])
def test_grace_ends_on_the_second(now: int, expected: bool) -> None:  # noqa: FBT001 - same
    """Grace gives access until its end, and not at it."""
    assert is_entitled(Owned("sub_1", "past_due", grace_until=after(0)), after(now)) is expected


def test_grace_of_an_unpaid_subscription_gives_nothing() -> None:
    """Grace speaks only while the subscription is past due."""
    assert not is_entitled(Owned("sub_1", "unpaid", grace_until=after(9)), after(0))


ENDED_ENT = Owned("sub_0", "canceled", "enterprise")
DECIDING: list[tuple[str, list[Owned], str, bool, str | None]] = [
    ("no_rows", [], "starter", False, None),
    ("one", [Owned("sub_1", "active")], "pro", True, "active"),
    ("highest_tier", [Owned("a", "active"), Owned("b", "trialing", "enterprise")],
     "enterprise", True, "trialing"),
    ("entitled_before_higher", [Owned("a", "active"), Owned("b", "unpaid", "enterprise")],
     "pro", True, "active"),
    ("entitled_before_ended", [ENDED_ENT, Owned("a", "active", "starter")],
     "starter", True, "active"),
    ("later_period", [Owned("b", "active", current_period_end=after(1)),
                      Owned("a", "trialing", current_period_end=after(2))],
     "pro", True, "trialing"),
    ("greater_id", [Owned("b", "trialing"), Owned("a", "active")], "pro", True, "trialing"),
    ("not_ended_before_ended", [ENDED_ENT, Owned("a", "unpaid", "starter")],
     "starter", False, "unpaid"),
    ("all_ended", [ENDED_ENT, Owned("a", "incomplete_expired")], "starter", False, "canceled"),
    ("tier_no_longer_listed", [Owned("b", "active", "gold"), Owned("a", "trialing", "starter")],
     "starter", True, "trialing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "tier", "entitled", "status"),
    [row[1:] for row in DECIDING],
    ids=[row[0] for row in DECIDING],
)
def test_deciding_subscription(
    rows: list[Owned],
    tier: str,
    entitled: bool,  # noqa: FBT001 - a table's column
    status: str | None,
) -> None:
    """The same subscription decides in whatever order the rows come."""
    for order in (rows, rows[::-1]):
        answer = entitle("cus_1", order, after(0), PLANS, version=3)
        assert (answer.tier, answer.entitled, answer.status) == (tier, entitled, status)
        assert (answer.customer, answer.version) == ("cus_1", 3)


OUTRANKED: list[tuple[Owned, Owned, Outranked]] = [
    (Owned("b", "unpaid", "enterprise"), Owned("a", "active"), Outranked.NOT_ENTITLED),
    (Owned("b", "canceled", "enterprise"), Owned("a", "unpaid", "starter"), Outranked.ENDED),
    (Owned("b", "active"), Owned("a", "active", "enterprise"), Outranked.LOWER_TIER),
    (Owned("b", "active", current_period_end=after(1)),
     Owned("a", "active", current_period_end=after(2)), Outranked.EARLIER_PERIOD_END),
    (Owned("a", "active"), Owned("b", "active"), Outranked.LESSER_ID),
]  # fmt: skip


@pytest.mark.parametrize(("other", "deciding", "why"), OUTRANKED)
def test_who_does_not_decide_is_told_why(other: Owned, deciding: Owned, why: Outranked) -> None:
    """The first key of the order that differs is the reason."""
    assert find_deciding([other, deciding], after(0), PLANS) is deciding
    assert why_outranked(other, deciding, after(0), PLANS) is why


def test_valid_until_is_the_next_edge_of_any_subscription() -> None:
    """An answer must not be kept past the first grace period that ends, whoever decides now."""
    rows = [
        Owned("a", "active", "enterprise"),
        Owned("b", "past_due", grace_until=after(50)),
        Owned("c", "past_due", grace_until=after(20)),
        Owned("d", "past_due", grace_until=after(-5)),
    ]
    ends = [entitle("cus_1", rows, after(now), PLANS, version=1).valid_until for now in (0, 20, 50)]
    assert ends == [after(20), after(50), None]


ANSWER = Entitlement("cus_1", "pro", True, "past_due", after(20), None, 17, "cache")  # noqa: FBT003


def test_entitlement_document_reads_back() -> None:
    """What is written for an application is read back as it was, times in UTC with a Z."""
    assert Entitlement.decode(ANSWER.encode()) == ANSWER
    document = json.loads(ANSWER.encode())
    assert document == ANSWER.to_document()
    assert document["grace_until"].endswith("Z")


@pytest.mark.parametrize(
    "change",
    [
        {"tier": None},
        {"version": "17"},
        {"source": "hearsay"},
        {"grace_until": "2026-11-24T10:00:00"},
        {"valid_until": 5},
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(change: dict[str, object]) -> None:
    """A stored answer of another shape, or with a time in no zone, is none."""
    with pytest.raises(ValueError, match=r"Expected|Invalid"):
        Entitlement.decode(json.dumps(ANSWER.to_document() | change))
    with pytest.raises(ValueError, match="missing"):
        Entitlement.decode("{}")
