"""Union and prune: how two sets of facts about one subscription become one; pure.

Union does not care about order, repetition or batching, so neither does what follows from it.
Prune drops the facts that can never matter again. One law carries everything:

    prune(prune(a) | b) == prune(a | b)

It holds rule by rule: what a rule drops would be dropped whatever comes later, and its absence
does not change what else is kept. So pruning early equals never pruning, and the state after
any deliveries is prune(set of all facts delivered).
"""

from collections.abc import Iterable

from consumer.billing.facts import Checkout, FactSet, Invoice, Snapshot, canonical

WINDOW_SECONDS = 5
"""Snapshots this close to the newest are kept, as stamps are whole seconds and off by one."""

INVOICES_KEPT = 4


def merge(a: FactSet, b: FactSet) -> FactSet:
    """Return what both sets together say."""
    return prune(a | b)


def prune(
    facts: FactSet, window: int = WINDOW_SECONDS, invoices_kept: int = INVOICES_KEPT
) -> FactSet:
    """Drop the facts that can never matter again, whatever else comes."""
    snapshots = [fact for fact in facts if isinstance(fact, Snapshot)]
    ended = [fact for fact in snapshots if fact.is_ended]
    if ended:
        # Ended facts form a chain, and others lose to any of them, for ever.
        return frozenset({max(ended, key=_by_time)})
    return frozenset(
        [
            *_newest_snapshots(snapshots, window),
            *_newest_invoices((f for f in facts if isinstance(f, Invoice)), invoices_kept),
            *_best_checkout(fact for fact in facts if isinstance(fact, Checkout)),
        ]
    )


def _newest_snapshots(snapshots: list[Snapshot], window: int) -> list[Snapshot]:
    """Keep the window before the newest, which only grows: what fell out of it stays out."""
    newest = max((fact.at for fact in snapshots), default=0)
    return [fact for fact in snapshots if fact.at >= newest - window]


def _newest_invoices(invoices: Iterable[Invoice], kept: int) -> list[Invoice]:
    """Keep one fact an invoice, paid before failed, then the first; then the newest invoices.

    `issued` is the same in every fact of one invoice, so a better fact keeps its place.
    """
    best: dict[str, Invoice] = {}
    for fact in sorted(
        invoices, key=lambda fact: (not fact.paid, fact.at, fact.id, canonical(fact))
    ):
        best.setdefault(fact.invoice, fact)
    return sorted(best.values(), key=lambda fact: (fact.issued, fact.invoice), reverse=True)[:kept]


def _best_checkout(checkouts: Iterable[Checkout]) -> list[Checkout]:
    """Keep one: settled before not settled, then the first."""
    order = sorted(
        checkouts, key=lambda fact: (not fact.settled, fact.at, fact.id, canonical(fact))
    )
    return order[:1]


def _by_time(fact: Snapshot) -> tuple[int, str, bytes]:
    return fact.at, fact.id, canonical(fact)
