"""A small Stripe: lives of a customer's subscriptions, the events they cause, and the truth.

Over half the steps share a second with the one before. Loops of status inside one window do not
happen at Stripe (payments take longer), so they do not happen here; flags and plans do flip.
"""

from collections.abc import Callable
from random import Random

from property.life import Life
from support.stripe import DAY, MONTH, T0, invoice

FIVE_TYPES = frozenset(
    {
        "checkout.session.completed",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "invoice.paid",
        "invoice.payment_failed",
    }
)
PLAN_PRICES = ("price_starter", "price_pro", "price_ent")


def live(life: Life, steps: int) -> None:
    """Live one life from its start."""
    START[life.random.randrange(len(START))](life)
    for _ in range(steps):
        if life.status in {"canceled", "incomplete_expired", "unpaid"}:
            return
        STEPS[life.random.randrange(len(STEPS))](life)


def open_first_invoice(life: Life) -> None:
    """Issue the invoice that the subscription begins with."""
    life.open_invoice()
    life.named_invoice = life.invoice_id
    life.visited.append((life.now, life.render()))


def start_paid(life: Life) -> None:
    """Buy with a card that works."""
    open_first_invoice(life)
    life.emit("customer.subscription.created", life.render())
    life.pause()
    life.pay("subscription_create")
    life.update(status="active")
    life.settle("paid")


def start_trial(life: Life) -> None:
    """Start a trial: nothing to pay yet."""
    life.status = "trialing"
    open_first_invoice(life)
    life.emit("customer.subscription.created", life.render())
    life.pay("subscription_create", amount=0)
    life.settle("no_payment_required")


def start_declined(life: Life) -> None:
    """Buy with a card that is declined first; some never pay."""
    open_first_invoice(life)
    life.emit("customer.subscription.created", life.render())
    life.fail("subscription_create")
    life.wait(60, 3600)
    if life.random.random() < 0.3:
        life.wait(DAY, DAY)
        life.update(status="incomplete_expired")
        return
    life.pay("subscription_create")
    life.update(status="active")
    life.settle("paid")


def renew(life: Life) -> None:
    """Renew a month later: the invoice first, then the new period, then the payment."""
    if life.status not in {"active", "trialing"}:
        return
    life.wait(MONTH, MONTH + 60)
    if life.status == "trialing" and life.random.random() < 0.5:
        life.emit("customer.subscription.trial_will_end", life.render())
    life.open_invoice()
    life.bill("created", "draft", "subscription_cycle")
    period_end = life.period_end + MONTH
    life.update(status="active", period_end=period_end, named_invoice=life.invoice_id)
    life.wait(3600, 3700)
    if life.random.random() < 0.6:
        life.pay()
        return
    life.fail()
    life.update(status="past_due")


def dun(life: Life) -> None:
    """Try again to collect what is past due: fail, recover, forgive, or give up."""
    if life.status != "past_due":
        return
    life.wait(DAY, 3 * DAY)
    chance = life.random.random()
    if chance < 0.4:
        life.fail()
    elif chance < 0.7:
        life.pay()
        life.update(status="active")
    elif chance < 0.8:
        life.bill("voided", "void", "subscription_cycle")
        life.failed_at = None
        life.update(status="active")
    elif chance < 0.9:
        life.update(status="unpaid")
    else:
        end(life)


def change_plan(life: Life) -> None:
    """Change the plan, with an invoice at times."""
    life.pause()
    price = life.random.choice(PLAN_PRICES)
    if life.status == "active" and life.random.random() < 0.4:
        life.wait(10, 60)
        life.open_invoice()
        life.update(price=price, named_invoice=life.invoice_id)
        life.pay("subscription_update")
    elif price != life.price:
        life.update(price=price)


def flip_cancel(life: Life) -> None:
    """Schedule the end, or take that back."""
    life.pause()
    life.update(cancelling=not life.cancelling)


def touch_metadata(life: Life) -> None:
    """Change what nobody tracks."""
    life.pause()
    obj = life.render() | {"metadata": {"note": "x"}}
    life.emit("customer.subscription.updated", obj, {"metadata": {"note": None}})


def bill_by_hand(life: Life) -> None:
    """Send an invoice by hand, which is none of the billing cycle's business."""
    life.pause()
    kind, status = life.random.choice((("paid", "paid"), ("payment_failed", "open")))
    obj = invoice(
        status,
        id=f"in_hand_{life.now}",
        subscription=life.id,
        reason="manual",
        issued=T0 + life.now,
    )
    life.emit(f"invoice.{kind}", obj)


def end(life: Life) -> None:
    """End it at once."""
    life.pause()
    life.status, life.failed_at = "canceled", None
    life.visited.append((life.now, life.render()))
    life.emit("customer.subscription.deleted", life.render())


Step = Callable[[Life], None]
START: tuple[Step, ...] = (start_paid, start_paid, start_trial, start_declined)
STEPS: tuple[Step, ...] = (
    *(renew,) * 4,
    *(dun,) * 5,
    *(change_plan,) * 2,
    *(flip_cancel,) * 3,
    touch_metadata,
    bill_by_hand,
    end,
)


def make_history(seed: int, *, exact: bool = True) -> list[Life]:
    """Return a customer's one to three subscriptions, lived to some point."""
    random = Random(seed)  # noqa: S311 - the same lives for the same seed
    lives = []
    for number in range(random.randint(1, 3)):
        life = Life(f"sub_{number}", random, basil=random.random() < 0.5, exact=exact)
        life.now = random.randint(0, 3) * DAY
        live(life, random.randint(1, 9))
        lives.append(life)
    return lives
