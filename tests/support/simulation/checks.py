"""What must be true once all faults have stopped and everything has drained."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from consumer.billing.facts import encode_facts
from consumer.storage.rows import array_literal
from ops.simulator.history import History
from ops.simulator.truth import ENDED, GRACE_SECONDS, SubscriptionTruth
from support.billing import fold
from support.load import shuffled
from support.simulation.process import GROUP, TOPIC, Servers
from support.simulation.traffic import Delivery


def is_drained(servers: Servers) -> bool:
    """Tell whether every record is applied, Kafka knows it, and no cache entry is left to drop."""
    return is_applied(servers) and not servers.database.rows("cache_invalidations")


def is_applied(servers: Servers) -> bool:
    """Tell whether every record is applied and Kafka knows it.

    A grace period that ends while consumers leave gives an entry to drop to whoever comes next.
    """
    ends = dict(enumerate(servers.broker.ends))
    return (
        _positions(servers) == ends
        and servers.broker.committed == {p: end for p, end in ends.items() if end}
        and not servers.database.sessions
    )


def problems(
    servers: Servers, known: list[History], sent: dict[tuple[int, int], Delivery]
) -> Iterator[str]:
    """Yield a sentence for each thing that is not as it must be."""
    if not is_applied(servers):
        yield f"not applied: {_positions(servers)} of {servers.broker.ends} applied, "
        yield f"{servers.broker.committed} committed"
    if servers.database.sessions or servers.database.holders:
        yield "a transaction is open at rest"
    yield from _check_events(servers, known)
    yield from _check_letters(servers, sent)
    for history in known:
        for subscription in history.truth.subscriptions:
            yield from _check_subscription(servers, history, subscription)
        row = servers.database.rows("customers").get(history.truth.customer_id)
        if row is None or row["reference"] != history.truth.reference:
            yield f"{history.truth.customer_id}: the reference is not {history.truth.reference}"


def _positions(servers: Servers) -> dict[Any, int]:
    return {
        key[2]: row["next_offset"]
        for key, row in servers.database.rows("consumer_positions").items()
        if isinstance(key, tuple) and key[:2] == (GROUP, TOPIC)
    }


def _check_events(servers: Servers, known: list[History]) -> Iterator[str]:
    """Nothing lost, nothing twice: neither an event nor an effect of it."""
    rows = servers.database.rows("webhook_events").values()
    recorded = Counter(row["event_id"] for row in rows if row["outcome"] != "failed")
    for history in known:
        for event in history.events:
            if recorded[event.id] != 1:
                yield f"{event.id} is applied {recorded[event.id]} times"
    trail = servers.database.rows("billing_audit").values()
    entries = Counter((r["event_id"], r["subscription_id"], r["action"]) for r in trail)
    for entry, count in entries.items():
        if count > 1:
            yield f"{entry} stands {count} times in the audit trail"


def _check_letters(servers: Servers, sent: dict[tuple[int, int], Delivery]) -> Iterator[str]:
    """Set aside, with its bytes, is what nobody vouches for; what had failed is applied."""
    rows = servers.database.rows("dead_letters").values()
    strangers = [row for row in rows if row["event_id"] is None]
    found = Counter((row["partition"], row["kafka_offset"], row["body"]) for row in strangers)
    wanted = Counter((p, o, d.body) for (p, o), d in sent.items() if d.event is None)
    if found != wanted:
        yield f"dead letters of strangers: {found - wanted} too many, {wanted - found} missing"
    for row in rows:
        if row["event_id"] and row["resolved_at"] is None:
            yield f"{row['event_id']} is a dead letter: {row['error']}"


def _check_subscription(
    servers: Servers, history: History, wanted: SubscriptionTruth
) -> Iterator[str]:
    id_ = wanted.subscription_id
    row = servers.database.rows("subscriptions").get(id_)
    if row is None:
        yield f"{id_} has no row"
        return
    pairs: dict[str, tuple[object, object]] = {
        "customer": (row["customer_id"], history.truth.customer_id),
        "status": (row["status"], wanted.status),
        "tier": (row["tier"], wanted.tier),
        "prices": (row["prices"], array_literal(wanted.prices)),
        "cancel_at_period_end": (row["cancel_at_period_end"], wanted.cancel_at_period_end),
        "cancel_at": (_seconds(row["cancel_at"]), wanted.cancel_at),
        "current_period_end": (_seconds(row["current_period_end"]), wanted.period_end),
        "grace_until": (_seconds(row["grace_until"]), wanted.grace_until(GRACE_SECONDS)),
        "facts": (row["facts"], encode_facts(fold(shuffled([history]))[id_])),
    }
    for name, (found, true) in pairs.items():
        if found != true:
            yield f"{id_}: {name} is {found}, not {true}"
    trail = servers.database.rows("billing_audit").values()
    times = {"subscription_started": 1, "subscription_ended": int(wanted.status in ENDED)}
    for action, count in times.items():
        stands = sum(r["subscription_id"] == id_ and r["action"] == action for r in trail)
        if stands != count:
            yield f"{id_}: {action} stands {stands} times in the audit trail, not {count}"


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
