"""The timeline: Stripe's time, order of arrival, and what really happened to each event."""

from dataclasses import replace

import pytest

from consumer.recall import recall
from consumer.storage.history import OpenLetter, TrailEntry
from ops.explain.timeline import UNNAMED, say_change
from support.billing import after
from support.dossiers import ask, dossier_of, stored_event
from support.stripe import T0
from unit.billing.happenings import FROM_ACTIVE, created, failed, paid, updated

OPENED = created("active", 1, latest_invoice="in_1")
FAILURE = failed(100, "in_2", issued=T0 + 90)
PAST_DUE = updated("past_due", 100, FROM_ACTIVE, latest_invoice="in_2")


def test_marks_of_lateness_and_of_one_second() -> None:
    """Arrival is numbered; what newer events of its subscription overtook is late."""
    first, second = OPENED | {"id": "evt_a"}, paid(1) | {"id": "evt_b"}
    third = PAST_DUE | {"id": "evt_c"}
    other = created("active", 2, id="sub_2") | {"id": "evt_d"}
    last = updated("past_due", 900, {"metadata": {}}) | {"id": "evt_e"}
    arrived = [third, other, first, second, last]
    dossier = dossier_of(arrived, evt_a=200, evt_b=300, evt_c=1, evt_d=500)
    marks = {
        one.event_id: (one.arrival, one.late, one.same_second)
        for one in ask(dossier).timeline.entries
    }
    assert marks == {
        "evt_c": (1, False, False),
        "evt_a": (2, True, True),
        "evt_b": (3, True, True),
        "evt_d": (4, False, False),
        "evt_e": (5, False, False),
    }


def test_failed_events_and_dead_letters_are_in_the_timeline() -> None:
    """What does not count is shown with its reason, and warned of."""
    failure = recall(stored_event(FAILURE, 5, outcome="failed"))
    letters = (
        OpenLetter(7, FAILURE["id"], "handler", "ZeroDivisionError", 2, after(101)),
        OpenLetter(8, None, "unsigned", "nobody signed it", 1, after(150)),
    )
    known = dossier_of([OPENED])
    dossier = replace(known, events=(*known.events, failure), letters=letters)
    found = ask(dossier)
    assert found.answer.status == "active"
    assert found.warnings[0].startswith(f"dead letter 8, {FAILURE['id']} could not be applied")
    whys = [one.why for one in found.timeline.entries if one.outcome == "failed"]
    assert whys == [
        "hookline's own code raised on it (2 times, open dead letter 7): ZeroDivisionError",
        "its signature is missing or not ours (open dead letter 8): nobody signed it",
    ]


def test_an_event_whose_change_nobody_names_says_so() -> None:
    """Applied, and nothing in the trail: the reader is not left to wonder."""
    (entry,) = ask(dossier_of([OPENED])).timeline.entries
    assert entry.why == UNNAMED


def test_changes_by_repair_and_of_events_gone_stand_in_the_timeline() -> None:
    """The trail outlives its events, and a repair has none."""
    moved = TrailEntry(
        "recompute_1", "sub_1", "tier_changed", {"tier": "a"}, {"tier": "b"}, after(9), after(9)
    )
    gone, other = replace(moved, event_id="evt_gone"), replace(moved, subscription_id="sub_2")
    asked = replace(moved, event_id="fetch_1")
    found = ask(replace(dossier_of([OPENED]), trail=(moved, other, gone, asked)))
    said = ("tier changed: a -> b",)
    assert [
        (one.title, one.subscription_id, one.changes) for one in found.timeline.entries[1:]
    ] == [
        ("an event no longer recorded", "sub_1", said),
        ("asked of Stripe", "sub_1", said),
        ("hookline recompute --apply", "sub_1", said),
        ("hookline recompute --apply", "sub_2", said),
    ]


@pytest.mark.parametrize(
    ("action", "before", "after_", "words"),
    [
        ("status_changed", {"status": "active"}, {"status": "past_due"}, ": active -> past due"),
        ("subscription_started", {}, {"status": "active", "tier": "pro"}, ": active, pro"),
        ("backfilled", {}, {"status": "active", "tier": "pro"}, ": active, pro"),
        ("backfilled", {"status": "active"}, {"status": "canceled"}, ": active -> canceled"),
        ("cancellation_scheduled", {"cancel_at_period_end": False},
         {"cancel_at_period_end": True}, ""),
        ("grace_period_started", {"grace_until": None},
         {"grace_until": "2026-11-24T10:00:00Z"}, ": to 24 Nov 2026 10:00 UTC"),
        ("grace_period_cleared", {"grace_until": "2026-11-24T10:00:00Z"},
         {"grace_until": None}, ""),
        ("payment_failed", {}, {"invoice": "in_1"}, ": in_1"),
        ("reference_linked", {"reference": None}, {"reference": "user_7"}, ": user_7"),
    ],
)  # fmt: skip
def test_changes_in_words(
    action: str, before: dict[str, object], after_: dict[str, object], words: str
) -> None:
    """An action's name and what moved; ids are left as they are."""
    said = say_change(TrailEntry("evt_1", "sub_1", action, before, after_, after(0), after(0)))
    assert said == action.replace("_", " ") + words
