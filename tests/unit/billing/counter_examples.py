"""The orders and ties that break receivers, by name: events, and what the row must say."""

from dataclasses import dataclass, field
from typing import Any

from support.billing import after
from support.stripe import DAY, Json, event, subscription
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


@dataclass(frozen=True)
class Case:
    """Events and what the row must say, whatever their order."""

    name: str
    truth: str
    events: list[Json]
    expected: dict[str, Any] = field(default_factory=dict)


NO_GRACE = {"grace_until": None}
PRO, STARTER = ("price_pro",), ("price_starter",)

CASES = [
    Case(
        "late_update_after_deleted",
        "nothing revives an ended subscription",
        [deleted(10), updated("active", 12, {"status": "past_due"})],
        {"status": "canceled"} | NO_GRACE,
    ),
    Case(
        "failed_and_paid_same_second",
        "a paid invoice never becomes unpaid",
        [failed(5), paid(5)],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "checkout_after_deleted",
        "a checkout does not revive either",
        [deleted(10), completed(11)],
        {"status": "canceled"},
    ),
    Case(
        "late_failed_after_paid",
        "a failure older than the payment starts no grace",
        [failed(10), paid(60)],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "paid_of_last_month_after_failed_of_this_month",
        "last month's payment does not settle this month's invoice",
        [paid(3, "in_1", issued=1_700_000_000), failed(100, "in_2", issued=1_700_000_090)],
        {"status": "past_due", "grace_until": after(100 + DAY)},
    ),
    Case(
        "failed_replayed_a_week_later",
        "a replay does not move the grace period",
        [failed(10), failed(10 + 7 * DAY)],
        {"grace_until": after(10 + DAY)},
    ),
    Case(
        "eight_dunning_failures",
        "grace runs from the first failure",
        [failed(10 + n * DAY) for n in range(8)],
        {"status": "past_due", "grace_until": after(10 + DAY)},
    ),
    Case(
        "created_after_updated_same_second",
        "links order what a stamp cannot",
        [created("incomplete", 5), updated("active", 5, {"status": "incomplete"})],
        {"status": "active", "ambiguous": False},
    ),
    Case(
        "trial_will_end_and_updated_same_second",
        "an event that changes nothing does not undo a change",
        [
            event("customer.subscription.trial_will_end", subscription("trialing"), 5),
            updated("active", 5, {"status": "trialing"}),
        ],
        {"status": "active", "ambiguous": False},
    ),
    Case(
        "two_fields_same_second",
        "two changes of one second both stand",
        [
            updated("active", 5, items_of("price_starter")),
            updated("active", 5, {"cancel_at_period_end": False}, cancel_at_period_end=True),
        ],
        {"prices": PRO, "cancel_at_period_end": True, "ambiguous": False},
    ),
    Case(
        "there_and_back_a",
        "a loop with nothing before it is flagged; its greatest id stands, everywhere the same",
        [
            updated("active", 5, {"cancel_at_period_end": False}, cancel_at_period_end=True),
            updated("active", 5, {"cancel_at_period_end": True}),
        ],
        {"cancel_at_period_end": False, "ambiguous": True},
    ),
    Case(
        "there_and_back_b",
        "a link into the loop settles it",
        [
            updated("active", 3, {"status": "trialing"}),
            updated("active", 5, {"cancel_at_period_end": False}, cancel_at_period_end=True),
            updated("active", 5, {"cancel_at_period_end": True}),
        ],
        {"cancel_at_period_end": False, "ambiguous": False},
    ),
    Case(
        "paid_older_than_unrelated_update",
        "an unrelated update does not undo a payment",
        [updated("past_due", 10, FROM_ACTIVE), paid(20), updated("past_due", 21, {"metadata": {}})],
        {"status": "active"},
    ),
    Case(
        "updated_canceled_without_deleted",
        "an update may bring the end",
        [updated("canceled", 10, FROM_ACTIVE)],
        {"status": "canceled"},
    ),
    Case(
        "paid_after_incomplete_expired",
        "incomplete_expired is an end as well",
        [updated("incomplete_expired", 10, {"status": "incomplete"}), paid(20)],
        {"status": "incomplete_expired"},
    ),
    Case(
        "old_fetch_saved_last",
        "an older fetch does not win over a newer event",
        [
            event("customer.subscription.fetched", subscription("trialing"), 4, id="fetch_1"),
            updated("active", 10, {"status": "trialing"}),
        ],
        {"status": "active"},
    ),
    Case(
        "two_ids_for_one_change",
        "one change under two ids counts once",
        [updated("past_due", 10, FROM_ACTIVE), updated("past_due", 10, FROM_ACTIVE)],
        {"status": "past_due", "ambiguous": False},
    ),
    Case(
        "backwards_second",
        "links hold where stamps run backwards",
        [
            updated("active", 11, {"status": "trialing"}),
            updated("past_due", 10, FROM_ACTIVE),
        ],
        {"status": "past_due", "ambiguous": False},
    ),
    Case(
        "two_invoices_one_second",
        "the invoice that the snapshot names decides, not the last event",
        [
            updated("past_due", 10, FROM_ACTIVE, latest_invoice="in_a"),
            failed(10, "in_a", issued=1_700_000_005),
            paid(10, "in_b", issued=1_700_000_005),
        ],
        {"status": "past_due", "grace_until": after(10 + DAY)},
    ),
    Case(
        "pending_update_payment_fails",
        "with a pending update Stripe keeps the subscription active",
        [
            updated("active", 10, {}, latest_invoice="in_1", pending_update={"expires_at": 1}),
            failed(11, issued=1_700_000_010),
        ],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "manual_invoice_failed",
        "an invoice made by hand changes no status",
        [created("active", 1), failed(50, reason="manual", issued=1_700_000_040)],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "manual_invoice_paid",
        "nor does it lift one",
        [created("incomplete", 1), paid(50, reason="manual", issued=1_700_000_040)],
        {"status": "incomplete"},
    ),
    Case(
        "failure_before_its_update_a",
        "a failed renewal starts grace although the update is late",
        [
            created("active", 1, latest_invoice="in_1"),
            failed(100, "in_2", issued=1_700_000_090),
        ],
        {"status": "past_due", "grace_until": after(100 + DAY)},
    ),
    Case(
        "failure_before_its_update_b",
        "in the very second of its failure, too",
        [
            updated("active", 100, {}, latest_invoice="in_2"),
            failed(100, "in_2", issued=1_700_000_090),
        ],
        {"status": "past_due", "grace_until": after(100 + DAY)},
    ),
    Case(
        "first_invoice_fails",
        "a first invoice that fails gives no grace",
        [completed(5, "unpaid"), failed(5, reason="subscription_create")],
        {"status": "incomplete"} | NO_GRACE,
    ),
    Case(
        "trial_without_snapshot",
        "a trial is known from its checkout and its free invoice",
        [completed(5, "no_payment_required"), paid(5, reason="subscription_create", amount=0)],
        {"status": "trialing", "tier": "pro"},
    ),
    Case(
        "voided",
        "an active snapshot younger than the failure forgives it",
        [
            failed(9),
            updated("past_due", 10, FROM_ACTIVE),
            updated("active", 500, {"status": "past_due"}),
        ],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "declined_then_checkout_paid_a",
        "a paid checkout lifts a declined first invoice",
        [failed(5, reason="subscription_create"), completed(8)],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "declined_then_checkout_paid_b",
        "with an incomplete snapshot, too",
        [created("incomplete", 4), failed(5, reason="subscription_create"), completed(8)],
        {"status": "active"} | NO_GRACE,
    ),
    Case(
        "next_invoice_not_attempted",
        "grace belongs to the invoice that the snapshot names",
        [
            failed(5, "in_1", issued=1_700_000_001),
            updated("past_due", 50, {"latest_invoice": "in_1"}, latest_invoice="in_2"),
        ],
        {"status": "past_due"} | NO_GRACE,
    ),
    Case(
        "lost_link",
        "a state that no link enters was entered once",
        [
            updated("active", 10, {"status": "trialing"}),
            updated("past_due", 12, {"metadata": {"a": "b"}}),
        ],
        {"status": "past_due", "ambiguous": False},
    ),
    Case(
        "on_off_on_same_second",
        "three flips of one second end where they must",
        [
            updated("active", 5, {"cancel_at_period_end": False}, cancel_at_period_end=True),
            updated("active", 5, {"cancel_at_period_end": True}),
            updated("active", 5, {"cancel_at_period_end": False}, cancel_at_period_end=True),
        ],
        {"cancel_at_period_end": True, "ambiguous": False},
    ),
    Case(
        "created_with_late_body",
        "a body newer than its type does no harm",
        [created("active", 5), updated("active", 5, {"status": "incomplete"})],
        {"status": "active", "ambiguous": False},
    ),
    Case(
        "unmapped_first_item",
        "the highest mapped item decides, never the first",
        [created("active", 5, prices=("price_addon", "price_pro"))],
        {"tier": "pro"},
    ),
    Case(
        "deleted_body_says_active",
        "a deleted event ends, whatever its body says",
        [deleted(10, "active"), updated("active", 11, {"status": "past_due"})],
        {"status": "canceled"},
    ),
    Case(
        "async_checkout",
        "a delayed payment activates when it arrives",
        [
            completed(5, "unpaid"),
            completed(5 + 3 * DAY, "paid", "async_payment_succeeded"),
        ],
        {"status": "active"},
    ),
]
