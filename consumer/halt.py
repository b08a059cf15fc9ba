"""When failures point at ourselves: stop before a bad deployment drains the topic."""

from collections.abc import Sequence

from consumer.errors import Halt
from consumer.storage.dead_letters import OURS, DeadLetter, Recent
from consumer.storage.ledger import Transaction

LETTERS = 50
CUSTOMERS = 20
SHARE = 0.05


def check_our_faults(transaction: Transaction, letters: Sequence[DeadLetter], events: int) -> None:
    """Raise Halt if the last five minutes and this batch look like a fault of our own.

    Read from the table inside the batch's transaction, so that a restarted process halts at
    once, and decided before COMMIT, so that the batch is offered again after the fix. What
    strangers can cause never counts, nor does one sick customer.
    """
    ours = [letter for letter in letters if letter.reason in OURS]
    if not ours:
        return
    recent = transaction.count_recent()
    if is_our_fault(recent, ours, events):
        raise Halt(
            f"{recent.letters + len(ours)} events failed in five minutes, the last with "
            f"{ours[-1].error!r}: this looks like a fault of hookline or its plans file; "
            "put the last working version back; the batch was rolled back and is offered again"
        )


def is_our_fault(recent: Recent, ours: Sequence[DeadLetter], events: int) -> bool:
    """Decide the rule: at least 50 failures, of at least 20 customers, over 5 % of events."""
    failures = recent.letters + len(ours)
    customers = recent.customers | {letter.customer for letter in ours if letter.customer}
    return (
        failures >= LETTERS
        and len(customers) >= CUSTOMERS
        and failures > SHARE * (recent.events + events)
    )
