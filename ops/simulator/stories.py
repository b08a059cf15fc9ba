"""What happens to subscriptions: how they start, and step by step what becomes of them; pure.

Statuses do not go in circles within seconds: at Stripe a payment takes longer. Plans and
cancellations may, where the pace allows it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ops.simulator.catalogue import PLANS, Plan
from ops.simulator.life import DAY, MONTH, Life
from ops.simulator.objects import Period

ALIVE = frozenset({"active", "trialing", "past_due"})
TRIAL = 14 * DAY
HOUR = 3600


@dataclass(frozen=True, slots=True)
class Step:
    """Something that may happen: from which statuses, how often, and how long it takes at most."""

    act: Callable[[Life], None]
    weight: int
    seconds: int
    statuses: frozenset[str] = field(default=ALIVE)


def live(life: Life, steps: int) -> None:
    """Live a life for so many steps, or to its end."""
    start = life.random.choices(STARTS, [start.weight for start in STARTS])[0]
    start.act(life)
    for _ in range(steps):
        if not life.is_alive:
            return
        take_step(life)


def take_step(life: Life) -> None:
    """Let the next thing happen: what is drawn, or the end of the period where that comes first."""
    fitting = [
        step
        for step in STEPS
        if life.status in step.statuses and life.now + step.seconds < life.period.end
    ]
    if not fitting:
        finish_period(life)
        return
    life.random.choices(fitting, [step.weight for step in fitting])[0].act(life)


def finish_period(life: Life) -> None:
    """Come to the end of the period: renew, end as asked, or give up what was never paid."""
    if life.status == "past_due":
        give_up(life)
        return
    if life.status == "paused":
        resume(life)
        return
    life.now = max(life.now, life.period.end)
    if life.cancel_at_period_end or life.cancel_at is not None:
        life.end()
    elif life.status == "trialing" and life.chance(0.2):
        pause_after_trial(life)
    else:
        renew(life)


# --- starts


def start_paid(life: Life) -> None:
    """Buy with a card that works; the checkout completes first or last."""
    life.begin(MONTH)
    is_first = life.chance(0.5)
    if is_first:
        life.settle("completed", "paid")
        life.pause(5)
    # Stripe renders some bodies late: they are newer than the type of their event says.
    late_body = {"status": "active"} if life.chance(0.2) else {}
    life.tell("created", **late_body)
    life.pause(60)
    life.bill("finalized", "paid" if life.chance(0.2) else "open")
    life.pay()
    life.update(status="active")
    if not is_first:
        life.pause(60)
        life.settle("completed", "paid")


def start_trial(life: Life) -> None:
    """Start a trial: nothing to pay yet."""
    life.status = "trialing"
    life.begin(TRIAL)
    life.tell("created")
    life.pay(free=True)
    life.settle("completed", "no_payment_required")


def start_without_checkout(life: Life) -> None:
    """Be subscribed by the application itself, with a card on file."""
    life.status = "active"
    life.begin(MONTH)
    life.tell("created")
    life.pay()


def start_declined(life: Life) -> None:
    """Buy with a card that is declined first; some never pay."""
    life.begin(MONTH)
    life.tell("created")
    life.fail()
    life.wait(60, HOUR)
    if life.chance(0.3):
        life.wait(DAY, DAY)
        life.update(status="incomplete_expired", failed_at=None)
        return
    life.pay()
    life.update(status="active")
    life.settle("completed", "paid")


def start_by_debit(life: Life) -> None:
    """Buy by a method that takes days, and may fail in the end."""
    life.begin(MONTH)
    life.tell("created")
    life.settle("completed", "unpaid")
    life.wait(DAY, 4 * DAY)
    if life.chance(0.3):
        life.settle("async_payment_failed", "unpaid")
        life.fail()
        life.wait(DAY, DAY)
        life.update(status="incomplete_expired", failed_at=None)
        return
    life.settle("async_payment_succeeded", "paid")
    life.pay()
    life.update(status="active")


# --- the end of a period


def renew(life: Life) -> None:
    """Renew: the invoice first, then the new period, then, an hour later, the payment."""
    life.open_invoice("subscription_cycle")
    life.bill("created", "draft")
    if life.chance(0.15):
        life.bill_aside("paid", "paid", "subscription_threshold")
    period = Period(life.period.end, life.period.end + MONTH)
    life.update(status="active", period=period, named_invoice=life.invoice_id)
    life.wait(HOUR, HOUR + 100)
    life.bill("finalized", "open")
    if life.chance(0.7):
        life.pay()
    else:
        life.fail()
        life.update(status="past_due")


def pause_after_trial(life: Life) -> None:
    """Stand still at the end of a trial: there is no card to charge."""
    life.update(status="paused")
    life.tell("paused")


def resume(life: Life) -> None:
    """Add a card after a pause and go on."""
    life.wait(DAY, 5 * DAY)
    life.open_invoice("subscription_cycle")
    period = Period(life.now, life.now + MONTH)
    life.update(status="active", period=period, named_invoice=life.invoice_id)
    life.pay()
    life.tell("resumed")


def give_up(life: Life) -> None:
    """Stop trying to collect: unpaid, or ended, as the account is set."""
    life.wait(HOUR, DAY)
    if life.chance(0.4):
        life.update(status="unpaid")
    else:
        life.end()


# --- steps


def retry(life: Life) -> None:
    """Try again to collect: fail once more, recover, forgive, or give up."""
    life.wait(DAY, 3 * DAY)
    outcomes = (Life.fail, recover, forgive, give_up)
    life.random.choices(outcomes, (9, 6, 2, 3))[0](life)


def recover(life: Life) -> None:
    """Have the overdue invoice paid."""
    life.pay()
    life.update(status="active")


def forgive(life: Life) -> None:
    """Void the overdue invoice, which makes the subscription active without a payment."""
    life.bill("voided", "void")
    life.update(status="active", failed_at=None)


def end_trial_soon(life: Life) -> None:
    """Be told that the trial ends, often in the second of another change."""
    life.pause()
    life.tell("trial_will_end")


def change_plan(life: Life) -> None:
    """Change the plan, up or down, from the next invoice on."""
    life.pause()
    life.update(plan=_other_plan(life))


def upgrade_at_once(life: Life) -> None:
    """Change the plan and pay the difference now; a declined card leaves the change pending."""
    life.wait(10, DAY)
    wanted = _other_plan(life)
    life.open_invoice("subscription_update", (life.plan, wanted))
    if life.chance(0.3):
        _wait_for_payment(life, wanted)
        return
    life.update(plan=wanted, named_invoice=life.invoice_id)
    life.pay()


def _wait_for_payment(life: Life, wanted: Plan) -> None:
    """Hold a change back until its invoice is paid, or drop it after a day."""
    life.fail()
    life.update(pending=wanted, named_invoice=life.invoice_id)
    life.failed_at = None
    if life.chance(0.5):
        life.wait(HOUR, 10 * HOUR)
        life.pay()
        life.update(plan=wanted, pending=None)
        life.tell("pending_update_applied")
    else:
        life.wait(DAY, DAY + HOUR)
        life.update(pending=None)
        life.tell("pending_update_expired")


def schedule_end(life: Life) -> None:
    """Ask to end with the period, in the way of the years or by a date, or take that back."""
    life.pause()
    if life.cancel_at_period_end or life.cancel_at is not None:
        life.update(cancel_at_period_end=False, cancel_at=None)
    elif life.chance(0.3):
        life.update(cancel_at=life.period.end)
    else:
        life.update(cancel_at_period_end=True)


def toggle_add_on(life: Life) -> None:
    """Buy seats beside the plan, or give them back."""
    life.pause()
    life.update(has_add_on=not life.has_add_on)


def touch_metadata(life: Life) -> None:
    """Change what nobody tracks."""
    life.pause()
    note = f"note {life.random.randrange(1000)}"
    previous = {"metadata": {"note": life.note}}
    life.note = note
    life.teller.tell("customer.subscription.updated", life.render(), life.now, previous)


def toggle_collection(life: Life) -> None:
    """Stop collecting payments, or go on; access is not touched by it."""
    life.pause()
    life.update(is_collecting=not life.is_collecting)


def bill_by_hand(life: Life) -> None:
    """Send an invoice by hand, which is none of the billing cycle's business."""
    life.pause()
    kind, status = life.random.choice((("paid", "paid"), ("payment_failed", "open")))
    life.bill_aside(kind, status, "manual")


def end_at_once(life: Life) -> None:
    """Cancel, effective now."""
    life.pause()
    life.end()


def burst(life: Life) -> None:
    """Change several things in one second, as an application does that calls Stripe in a row."""
    change_plan(life)
    life.update(cancel_at_period_end=not life.cancel_at_period_end)
    life.update(has_add_on=not life.has_add_on)


def _other_plan(life: Life) -> Plan:
    return life.random.choice([plan for plan in PLANS if plan != life.plan])


STARTS = (
    Step(start_paid, 6, 0),
    Step(start_trial, 3, 0),
    Step(start_without_checkout, 1, 0),
    Step(start_declined, 2, 0),
    Step(start_by_debit, 1, 0),
)
_COLLECTED = frozenset({"active"})
_RUNNING = frozenset({"active", "trialing"})
STEPS = (
    Step(finish_period, 8, 0, _RUNNING),
    Step(retry, 20, 4 * DAY, frozenset({"past_due"})),
    Step(end_trial_soon, 3, DAY, frozenset({"trialing"})),
    Step(change_plan, 2, DAY),
    Step(upgrade_at_once, 3, 3 * DAY, _COLLECTED),
    Step(schedule_end, 4, DAY),
    Step(toggle_add_on, 2, DAY),
    Step(burst, 1, DAY),
    Step(touch_metadata, 2, DAY),
    Step(toggle_collection, 1, DAY),
    Step(bill_by_hand, 2, DAY),
    Step(end_at_once, 1, DAY),
)
