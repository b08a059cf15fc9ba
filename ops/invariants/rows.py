"""I3: stored facts and rows are what the recorded events say."""

from collections.abc import Iterator

from consumer.recompute import Findings
from consumer.repair import CUSTOMERS_AT_ONCE, Repair
from consumer.storage.history import snapshot
from ops.counting import count
from ops.invariants.subject import Finding, Looking, Subject, chunks
from ops.recompute import say_change


def check_rows(subject: Subject) -> Looking:
    """Every event folded again, in snapshots of a page of customers: no writer can look wrong.

    Reads every payload: some thousand events a second.
    """
    repair = Repair(subject.engine, subject.plans, subject.grace)
    customers = events = 0
    for findings in _examine(repair, subject):
        customers += 1
        events += findings.events
        for event_id, why in findings.unreadable:
            yield Finding("I3", findings.customer_id, f"{event_id} cannot be read any more: {why}")
        for one in findings.differences:
            whose = "customer" if one.subscription_id is None else one.subscription_id
            what = f"{whose}: {one.field}: {say_change(one)}"
            yield Finding("I3", findings.customer_id, what)
    return f"{count(events, 'event')} of {count(customers, 'customer')} folded again"


def _examine(repair: Repair, subject: Subject) -> Iterator[Findings]:
    if subject.customers is None:
        yield from repair.examine_all()
        return
    for page in chunks(subject.customers, CUSTOMERS_AT_ONCE):
        with snapshot(subject.engine) as connection:
            found = list(repair.examine(connection, page))
        # Who left nothing at all has nothing that could differ.
        yield from (f for f in found if f.stored or f.events or f.subscriptions)
