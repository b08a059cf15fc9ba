"""An explanation: the same answer as the gatekeeper's, with its why, at any moment, without any."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from msgspec import structs

from ops.explain.command import parse_moment, require_events
from ops.explain.document import to_document
from ops.explain.dossier import Dossier
from ops.explain.prospects import What
from ops.usage import UsageError, require_customer
from support.dossiers import ask, dossier_of
from support.stripe import DAY, MONTH, T0, Json
from unit.billing.happenings import FROM_ACTIVE, completed, created, deleted, failed, paid, updated

OPENED = created("active", 1, latest_invoice="in_1")
FAILURE = failed(100, "in_2", issued=T0 + 90)
PAST_DUE = updated("past_due", 100, FROM_ACTIVE, latest_invoice="in_2")


SCENES: list[tuple[str, list[Json], int, str, list[What]]] = [
    ("active", [OPENED], 200, "cus_1 may use pro.", [What.RENEWS]),
    ("in_grace", [OPENED, FAILURE], 200,
     "cus_1 may use pro until 15 Nov 2023 22:15 UTC (in 23 h).", [What.GRACE_ENDS]),
    ("grace_over", [OPENED, FAILURE], 2 * DAY,
     "cus_1 may use only the default tier, starter: no subscription gives access.",
     [What.PAYMENT]),
    ("cancelling", [created("active", 1, cancel_at_period_end=True)], 200,
     "cus_1 may use pro.", [What.CANCELS]),
    ("renewal_overdue", [OPENED], MONTH + 9, "cus_1 may use pro.", [What.RENEWAL_DUE]),
    ("ended", [OPENED, deleted(10)], 200,
     "cus_1 may use only the default tier, starter: no subscription gives access.",
     [What.NOTHING]),
    ("paused", [created("paused", 1)], 200,
     "cus_1 may use only the default tier, starter: no subscription gives access.",
     [What.NOTHING]),
    ("unpaid_checkout", [completed(5, "unpaid")], 200,
     "cus_1 may use only the default tier, starter: no subscription gives access.",
     [What.PAYMENT]),
    ("no_subscription", [], 200,
     "cus_1 may use only the default tier, starter: there is no subscription.", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "at", "sentence", "whats"), [row[1:] for row in SCENES], ids=[r[0] for r in SCENES]
)
def test_answer_and_prospects(
    events: list[Json], at: int, sentence: str, whats: list[What]
) -> None:
    """One sentence says what may be used and until when; what comes next has its kind."""
    found = ask(dossier_of(events), at)
    assert found.sentence == sentence
    assert [one.what for one in found.prospects] == whats
    assert found.warnings == ()


def test_a_customer_never_seen_is_one_clear_sentence() -> None:
    """The gatekeeper answers the default tier; so does the explanation."""
    found = ask(Dossier("cus_1"))
    assert found.sentence == "cus_1 has never been seen: not entitled, starter by default."
    assert (found.answer.tier, found.answer.entitled, found.standings) == ("starter", False, ())
    assert found.warnings == ()


def test_what_is_left_when_grace_ends_is_asked_at_its_end() -> None:
    """Another subscription may still give something."""
    other = created("active", 1, id="sub_2", prices=("price_starter",))
    first = ask(dossier_of([OPENED, FAILURE])).prospects[0].sentence
    both = [
        created("active", 1, id="sub_2"),
        updated("past_due", 9, FROM_ACTIVE, prices=("price_ent",), latest_invoice="in_2"),
        failed(9, "in_2"),
    ]
    second = ask(dossier_of(both)).prospects[0].sentence
    assert first.endswith("unless in_2 is paid by then, only starter is left.")
    assert second.endswith("unless in_2 is paid by then, only pro is left.")
    assert len(ask(dossier_of([OPENED, other])).standings) == 2


def test_every_other_subscription_is_told_why_it_does_not_decide() -> None:
    """The deciding one stands first, with the rules of its row."""
    found = ask(
        dossier_of(
            [
                OPENED,
                created("active", 2, id="sub_2", prices=("price_starter",)),
                deleted(3, id="sub_3", prices=("price_ent",)),
            ]
        )
    )
    assert [(one.subscription.subscription_id, one.decides) for one in found.standings] == [
        ("sub_1", True),
        ("sub_2", False),
        ("sub_3", False),
    ]
    assert found.standings[1].sentence == (
        "Active gives access. It does not decide: its tier is lower."
    )
    assert "another one gives access" in found.standings[2].sentence
    assert found.standings[0].grounds[0].rule == "P2_latest_snapshot"


def test_as_of_counts_what_stripe_had_created_by_then() -> None:
    """Late arrivals count, later events do not, and nothing of the future is shown."""
    late = FAILURE | {"id": "evt_late"}
    dossier = dossier_of([OPENED, late, deleted(500)], evt_late=3600)
    assert ask(dossier).answer.status == "canceled"
    then = ask(dossier, 200, as_of=True)
    assert then.sentence == (
        "On 14 Nov 2023 22:16 UTC cus_1 could use pro until 15 Nov 2023 22:15 UTC (in 23 h)."
    )
    assert [one.event_id for one in then.timeline.entries] == [OPENED["id"], "evt_late"]
    assert then.timeline.later == 1
    assert then.warnings == (
        "hookline had not applied evt_late by then. By what it had, the answer was the same, pro.",
    )
    before = ask(dossier, 50, as_of=True)
    assert (before.answer.status, before.warnings) == ("active", ())
    assert ask(dossier, -50, as_of=True).standings == ()


def test_as_of_keeps_facts_whose_events_are_gone_if_they_are_that_old() -> None:
    """Retention leaves facts, which have their own time."""
    dossier = replace(dossier_of([OPENED, FAILURE]), events=())
    assert ask(dossier, 200).answer.status == "past_due"
    assert ask(dossier, 200, as_of=True).answer.status == "past_due"
    assert ask(dossier, 50, as_of=True).answer.status == "active"


def test_without_an_event_shows_what_would_differ() -> None:
    """The answer with and without, and each field that would not be the same."""
    dossier = dossier_of([OPENED, PAST_DUE, FAILURE])
    found = ask(dossier, without=frozenset({FAILURE["id"]})).comparison
    assert found is not None
    assert (found.answer.tier, found.answer.entitled) == ("starter", False)
    assert [(one.field, one.recomputed) for one in found.differences] == [("grace_until", None)]
    payment = paid(2)
    nothing = ask(dossier_of([OPENED, payment]), without=frozenset({payment["id"]}))
    assert nothing.comparison is not None
    assert nothing.comparison.differences == ()


def test_without_the_first_event_there_is_no_subscription() -> None:
    """A row that would not exist is told as such."""
    found = ask(dossier_of([OPENED]), without=frozenset({OPENED["id"]})).comparison
    assert found is not None
    assert [(one.field, one.recomputed) for one in found.differences] == [("row", None)]


def test_a_row_that_is_not_what_the_events_say_is_told_loudly() -> None:
    """The gatekeeper answers by the stored row, so the explanation does, and says what to run."""
    known = dossier_of([OPENED])
    (state,) = known.rows
    wrong = replace(state, row=structs.replace(state.row, status="unpaid"))
    found = ask(replace(known, rows=(wrong,)))
    assert (found.answer.entitled, found.answer.status) == (False, "unpaid")
    assert "hookline recompute --customer cus_1" in found.warnings[0]
    assert "sub_1: status" in found.warnings[0]
    assert found.standings[0].sentence == (
        "Unpaid gives no access. The recorded events say active, pro:"
    )


def test_the_document_is_stable() -> None:
    """Programs may rely on these names."""
    document = to_document(ask(dossier_of([OPENED, FAILURE]), without=frozenset({FAILURE["id"]})))
    assert sorted(document) == [
        "answer", "as_of", "at", "customer", "facts_up_to", "known", "later_entries", "next",
        "reference", "sentence", "subscriptions", "timeline", "warnings", "why", "without",
    ]  # fmt: skip
    assert document["answer"]["grace_until"] == "2023-11-15T22:15:00Z"
    assert document["why"]["rules"][0] == {
        "rule": "P2_latest_snapshot",
        "events": [OPENED["id"]],
        "sentence": document["why"]["rules"][0]["sentence"],
    }
    assert document["timeline"][1]["delay_seconds"] == 1.0
    assert document["without"]["differences"][0] == {
        "subscription": "sub_1",
        "field": "status",
        "with": "past_due",
        "without": "active",
    }


@pytest.mark.parametrize(
    ("text", "hour"),
    [("2026-11-24T10:00", 10), ("2026-11-24T10:00Z", 10), ("2026-11-24T10:00+02:00", 8),
     ("2026-11-24", 0)],
)  # fmt: skip
def test_moments_are_utc_where_they_name_no_zone(text: str, hour: int) -> None:
    """Nobody's local time is guessed."""
    assert parse_moment(text) == datetime(2026, 11, 24, hour, tzinfo=UTC)


@pytest.mark.parametrize("text", ["tuesday", "", "2026-13-01", "0001-01-01T00:00+10:00"])
def test_what_is_no_moment_is_a_sentence(text: str) -> None:
    """It shows how one is written."""
    with pytest.raises(UsageError, match="give a moment as in"):
        parse_moment(text)


def test_ids_are_checked() -> None:
    """A typing error is a sentence, not an empty answer."""
    with pytest.raises(UsageError, match="is no customer's id"):
        require_customer("sub_1")
    with pytest.raises(UsageError, match="evt_x is not recorded for cus_1"):
        require_events(dossier_of([OPENED]), {OPENED["id"], "evt_x"})
