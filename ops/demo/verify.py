"""Holding what hookline says against what is known to be true, customer by customer.

Looked at: every accepted event, every subscription's row, every customer's reference and audit
trail, every dead letter, and every answer of the gatekeeper.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import httpx2 as httpx
from sqlalchemy import Connection, Row, text

from consumer.storage.statements import find_recorded
from ops.simulator.truth import ENDED, Answer, CustomerTruth, SubscriptionTruth

T = TypeVar("T")

ROWS_AT_ONCE = 2_000
QUESTIONS_AT_ONCE = 16
CLOCK_SECONDS = 1.0
"""How far the gatekeeper's clock may be from ours when a grace period ends."""

_SUBSCRIPTIONS = text("""
SELECT subscription_id, customer_id, status, tier, prices, cancel_at_period_end, cancel_at,
  current_period_end, grace_until
FROM subscriptions WHERE customer_id = ANY(CAST(:customers AS text[]))
""")
_REFERENCES = text("""
SELECT customer_id, reference FROM customers WHERE customer_id = ANY(CAST(:customers AS text[]))
""")
_LETTERS = text("""
SELECT customer_id, event_id, reason, error FROM dead_letters
WHERE customer_id = ANY(CAST(:customers AS text[])) AND resolved_at IS NULL
""")
_BEGINNINGS_AND_ENDS = text("""
SELECT subscription_id, action, count(*) AS entries FROM billing_audit
WHERE customer_id = ANY(CAST(:customers AS text[]))
  AND action IN ('subscription_started', 'subscription_ended')
GROUP BY subscription_id, action
""")
_DOUBLED = text("""
SELECT customer_id, event_id, action, count(*) AS entries FROM billing_audit
WHERE customer_id = ANY(CAST(:customers AS text[]))
GROUP BY customer_id, event_id, subscription_id, action HAVING count(*) > 1
""")


class Mismatch(NamedTuple):
    """Something that is not as it must be, and whose."""

    customer: str
    what: str


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was sent: whose it is, and Stripe's `created`."""

    customer: str
    created_at: datetime


def find_missing(connection: Connection, events: Mapping[str, Sent]) -> set[str]:
    """Return the ids of those events that do not stand recorded."""
    missing = set(events)
    for ids in _chunks(list(events)):
        missing -= find_recorded(connection, {id_: events[id_].created_at for id_ in ids}).keys()
    return missing


def check_events(events: Mapping[str, Sent], missing: Iterable[str]) -> Iterator[Mismatch]:
    """Yield each event that was answered 200 and did not arrive in time."""
    for event_id in sorted(missing):
        yield Mismatch(events[event_id].customer, f"{event_id} was answered 200 and is not applied")


def check_rows(
    connection: Connection, truths: Sequence[CustomerTruth], grace_seconds: int
) -> Iterator[Mismatch]:
    """Yield each difference between the tables and the known outcome."""
    for some in _chunks(truths):
        asked = {"customers": [truth.customer_id for truth in some]}
        rows = {row.subscription_id: row for row in connection.execute(_SUBSCRIPTIONS, asked)}
        known = {s.subscription_id: (t, s) for t in some for s in t.subscriptions}
        for subscription_id in rows.keys() - known.keys():
            yield Mismatch(rows[subscription_id].customer_id, f"{subscription_id} is made up")
        for subscription_id, (truth, subscription) in known.items():
            row = rows.get(subscription_id)
            for what in _row_differences(row, truth, subscription, grace_seconds):
                yield Mismatch(truth.customer_id, f"{subscription_id}: {what}")
        yield from _check_references(connection, some, asked)
        yield from _check_trail(connection, known, asked)
        for letter in connection.execute(_LETTERS, asked):
            what = f"{letter.event_id} is a dead letter ({letter.reason}: {letter.error})"
            yield Mismatch(letter.customer_id, what)


def _row_differences(
    row: Row[Any] | None, truth: CustomerTruth, wanted: SubscriptionTruth, grace_seconds: int
) -> Iterator[str]:
    if row is None:
        yield "has no row"
        return
    pairs: dict[str, tuple[object, object]] = {
        "customer": (row.customer_id, truth.customer_id),
        "status": (row.status, wanted.status),
        "tier": (row.tier, wanted.tier),
        "prices": (tuple(row.prices), wanted.prices),
        "cancel_at_period_end": (row.cancel_at_period_end, wanted.cancel_at_period_end),
        "cancel_at": (_seconds(row.cancel_at), wanted.cancel_at),
        "current_period_end": (_seconds(row.current_period_end), wanted.period_end),
        "grace_until": (_seconds(row.grace_until), wanted.grace_until(grace_seconds)),
    }
    for name, (found, true) in pairs.items():
        if found != true:
            yield f"{name} is {found}, not {true}"


def _check_references(
    connection: Connection, truths: Sequence[CustomerTruth], asked: Mapping[str, object]
) -> Iterator[Mismatch]:
    rows = {row.customer_id: row.reference for row in connection.execute(_REFERENCES, asked)}
    for truth in truths:
        found = rows.get(truth.customer_id)
        if truth.customer_id not in rows:
            yield Mismatch(truth.customer_id, "has no row")
        elif found != truth.reference:
            yield Mismatch(truth.customer_id, f"reference is {found}, not {truth.reference}")


def _check_trail(
    connection: Connection,
    known: Mapping[str, tuple[CustomerTruth, SubscriptionTruth]],
    asked: Mapping[str, object],
) -> Iterator[Mismatch]:
    """Each subscription starts once, ends once or never, and no event has an effect twice."""
    entries = {
        (row.subscription_id, row.action): row.entries
        for row in connection.execute(_BEGINNINGS_AND_ENDS, asked)
    }
    for subscription_id, (truth, subscription) in known.items():
        times = {"subscription_started": 1, "subscription_ended": int(subscription.status in ENDED)}
        for action, wanted in times.items():
            found = entries.get((subscription_id, action), 0)
            if found != wanted:
                what = f"{subscription_id}: {action} stands {found} times in the audit trail"
                yield Mismatch(truth.customer_id, f"{what}, not {wanted}")
    for row in connection.execute(_DOUBLED, asked):
        yield Mismatch(row.customer_id, f"{row.event_id} had its effect {row.entries} times")


# --- the gatekeeper


async def check_answers(
    url: str, token: str | None, truths: Sequence[CustomerTruth], grace_seconds: int
) -> list[Mismatch]:
    """Ask for every customer, and again by its reference; return the wrong answers."""
    found: list[Mismatch] = []
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    waiting = iter(truths)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:

        async def work() -> None:
            for truth in waiting:
                paths = [f"/v1/customers/{truth.customer_id}/entitlement"]
                if truth.reference is not None:
                    paths.append(f"/v1/references/{truth.reference}/entitlement")
                for path in paths:
                    what = await _check_answer(client, path, truth, grace_seconds)
                    if what is not None:
                        found.append(Mismatch(truth.customer_id, what))

        async with asyncio.TaskGroup() as group:
            for _ in range(QUESTIONS_AT_ONCE):
                group.create_task(work())
    return found


async def _check_answer(
    client: httpx.AsyncClient, path: str, truth: CustomerTruth, grace_seconds: int
) -> str | None:
    before = time.time() - CLOCK_SECONDS
    try:
        response = await client.get(path)
    except httpx.HTTPError as error:
        return f"the gatekeeper does not answer ({type(error).__name__})"
    if response.status_code != httpx.codes.OK:
        return f"the gatekeeper answers {response.status_code}"
    document = response.json()
    grace_until = document["grace_until"]
    found = (
        document["customer"],
        Answer(
            document["tier"],
            document["entitled"],
            document["status"],
            None if grace_until is None else _seconds(datetime.fromisoformat(grace_until)),
        ),
    )
    # A grace period may end while we ask.
    moments = (before, time.time() + CLOCK_SECONDS)
    wanted = [(truth.customer_id, truth.answer(moment, grace_seconds)) for moment in moments]
    if found in wanted:
        return None
    asked = "reference" if "/references/" in path else "customer"
    return f"the gatekeeper says by {asked}: {found[1]}; it is {wanted[0][1]}"


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), ROWS_AT_ONCE):
        yield values[start : start + ROWS_AT_ONCE]
