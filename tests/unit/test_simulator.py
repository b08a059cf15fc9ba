"""The small Stripe of the demo: the same bytes for a seed, every story told, truth of its own."""

import json
from collections import Counter
from pathlib import Path

import pytest

import ops
from ops.simulator.catalogue import ADD_ON, DEFAULT_TIER, PLANS, TIERS
from ops.simulator.history import World
from ops.simulator.life import DAY
from ops.simulator.objects import Shape
from ops.simulator.truth import CustomerTruth, SubscriptionTruth
from schemas.plans import Price, load_plans

END = 1_795_000_000
WORLD = World("unit", END)


def test_same_seed_same_bytes() -> None:
    """A customer's bytes follow from seed, end and number alone, not from how many are asked."""
    again = World("unit", END)
    assert [again.history(n) for n in range(5)] == list(WORLD.histories(5))
    assert WORLD.history(3) == list(WORLD.histories(20))[3]


@pytest.mark.parametrize(
    "other",
    [World("other", END), World("unit", END + 1), World("unit", END, (Shape.BASIL,))],
    ids=["seed", "end", "shape"],
)
def test_another_world_has_other_customers_and_events(other: World) -> None:
    """What differs in content never shares an id with what is stored already."""
    ids = {event.id for history in WORLD.histories(20) for event in history.events}
    others = {event.id for history in other.histories(20) for event in history.events}
    assert not ids & others
    assert WORLD.history(0).truth.customer_id != other.history(0).truth.customer_id


def test_histories_tell_every_story() -> None:
    """Every status, every start and every kind of event of a life happens, and none too late."""
    kinds: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    in_grace = 0
    for history in WORLD.histories(800):
        kinds.update(event.type for event in history.events)
        statuses.update(truth.status for truth in history.truth.subscriptions)
        assert max(event.created for event in history.events) <= END + 1
        assert len({event.id for event in history.events}) == len(history.events)
        in_grace += history.truth.answer(END).grace_until is not None
    assert statuses.keys() == {
        "active", "trialing", "past_due", "unpaid", "paused", "canceled", "incomplete_expired",
    }  # fmt: skip
    assert kinds.keys() == {
        "checkout.session.async_payment_failed", "checkout.session.async_payment_succeeded",
        "checkout.session.completed", "customer.created", "customer.deleted",
        "customer.subscription.created", "customer.subscription.deleted",
        "customer.subscription.paused", "customer.subscription.pending_update_applied",
        "customer.subscription.pending_update_expired", "customer.subscription.resumed",
        "customer.subscription.trial_will_end", "customer.subscription.updated",
        "invoice.created", "invoice.finalized", "invoice.paid", "invoice.payment_failed",
        "invoice.payment_succeeded", "invoice.voided", "payment_method.attached",
        "payment_method.detached",
    }  # fmt: skip
    assert in_grace > 10


@pytest.mark.parametrize("shape", list(Shape))
def test_each_shape_is_rendered_as_its_version_does(shape: Shape) -> None:
    """Basil moved the period to the items and the subscription into the invoice's parent."""
    is_old = shape is Shape.OLD
    documents = [
        json.loads(event.body)["data"]["object"]
        for history in World("unit", END, (shape,)).histories(20)
        for event in history.events
    ]
    subscriptions = [d for d in documents if d["object"] == "subscription"]
    invoices = [d for d in documents if d["object"] == "invoice"]
    assert subscriptions
    assert invoices
    assert all(("current_period_end" in d) == is_old for d in subscriptions)
    assert all(("subscription" in d) == is_old for d in invoices)
    assert all(("parent" in d) != is_old for d in invoices)


def test_sample_plans_file_gives_what_the_company_sells() -> None:
    """The plans file that `up` copies maps the simulated prices to their tiers, and no add-on."""
    plans = load_plans(Path(ops.__file__).with_name("plans.sample.toml"))
    assert plans.tiers == TIERS
    assert plans.default == DEFAULT_TIER
    for plan in PLANS:
        price = Price(plan.price, plan.product, plan.lookup_key)
        assert plans.tier_of([price], None) == (plan.tier, True)
    add_on = Price(ADD_ON.price, ADD_ON.product, ADD_ON.lookup_key)
    assert plans.tier_of([add_on], None) == (DEFAULT_TIER, False)


def owned(name: str, status: str, tier: str, since: int | None = None) -> SubscriptionTruth:
    """Return a subscription of some status and tier."""
    return SubscriptionTruth(name, status, tier, (), False, None, END, since)  # noqa: FBT003


@pytest.mark.parametrize(
    ("subscriptions", "at", "expected"),
    [
        ((), END, ("starter", False, None)),
        ((owned("sub_1", "active", "pro"),), END, ("pro", True, "active")),
        ((owned("sub_1", "canceled", "enterprise"),), END, ("starter", False, "canceled")),
        (
            (owned("sub_1", "canceled", "enterprise"), owned("sub_2", "unpaid", "pro")),
            END,
            ("starter", False, "unpaid"),
        ),
        (
            (owned("sub_1", "past_due", "enterprise", END), owned("sub_2", "active", "pro")),
            END + DAY - 1,
            ("enterprise", True, "past_due"),
        ),
        (
            (owned("sub_1", "past_due", "enterprise", END), owned("sub_2", "active", "pro")),
            END + DAY,
            ("pro", True, "active"),
        ),
        ((owned("sub_1", "past_due", "pro"),), END, ("starter", False, "past_due")),
    ],
    ids=["never", "active", "ended", "unpaid", "in_grace", "grace_over", "no_failure"],
)
def test_truth_of_a_customer(
    subscriptions: tuple[SubscriptionTruth, ...], at: int, expected: tuple[str, bool, str | None]
) -> None:
    """Access comes from the highest entitled plan, and a grace period ends to the second."""
    answer = CustomerTruth("cus_1", None, subscriptions).answer(at)
    assert (answer.tier, answer.entitled, answer.status) == expected
