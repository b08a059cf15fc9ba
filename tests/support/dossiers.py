"""One customer's dossier in a test, as a consumer would have stored it, without a database."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import zstandard

from consumer.recall import Memory, recall
from consumer.recompute import Recomputed, StoredState, recompute
from consumer.storage.history import StoredEvent
from consumer.storage.ledger import StoredCustomer
from ops.explain.dossier import Dossier
from ops.explain.explanation import Explanation, explain
from ops.explain.views import Question
from schemas.plans import Plans
from support.billing import GRACE, PLANS, after
from support.stripe import Json, body


def at_second(second: int) -> datetime:
    """Return the moment of a stamp of Stripe's."""
    return datetime.fromtimestamp(second, UTC)


def stored_event(
    document: Json, offset: int = 0, delay: float = 1, outcome: str = "applied"
) -> StoredEvent:
    """Return an event as it stands recorded, received some seconds after it was created."""
    created = at_second(document["created"])
    received = created + timedelta(seconds=delay)
    return StoredEvent(
        event_id=document["id"],
        type=document["type"],
        customer_id="cus_1",
        created_at=created,
        received_at=received,
        processed_at=received,
        outcome=outcome,
        reason="handler" if outcome == "failed" else None,
        error="a fault of ours" if outcome == "failed" else None,
        partition=0,
        kafka_offset=offset,
        payload=zstandard.compress(body(document)),
    )


def dossier_of(documents: Iterable[Json], plans: Plans = PLANS, **delays: float) -> Dossier:
    """Return the dossier after these events; a delay is named by the event's id."""
    events = tuple(
        recall(stored_event(document, offset, delays.get(document["id"], 1)))
        for offset, document in enumerate(documents)
    )
    memory = Memory("cus_1")
    for one in events:
        memory.add(one)
    customer = memory.reference_with(StoredCustomer("cus_1", version=len(events)))
    findings = recompute(memory, None, (), plans, GRACE)
    return Dossier(
        "cus_1",
        customer,
        tuple(map(_state, findings.subscriptions)),
        tuple(sorted(events, key=lambda one: (one.event.created_at, one.event.event_id))),
    )


def ask(
    dossier: Dossier, at: int = 200, *, as_of: bool = False, without: frozenset[str] = frozenset()
) -> Explanation:
    """Explain a customer so many seconds after T0."""
    return explain(dossier, Question(after(at), as_of, without), PLANS, GRACE)


def _state(one: Recomputed) -> StoredState:
    return StoredState(one.subscription_id, one.customer_id, one.row, one.facts, 1)
