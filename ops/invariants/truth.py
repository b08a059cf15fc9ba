"""I4: rows, audit trail and answers of simulated customers are the known outcome."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx2 as httpx
from sqlalchemy import Connection, Row, text

from consumer.storage.history import snapshot
from ops.counting import count
from ops.invariants.subject import Finding, Looking, NotChecked, Subject, chunks
from ops.simulator.truth import ENDED, Answer, CustomerTruth, SubscriptionTruth

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
# What a backfill brought in has begun, and may have ended, in the one entry that says so.
_BEGINNINGS_AND_ENDS = text("""
WITH entries AS (
  SELECT subscription_id, action, before, after FROM billing_audit
  WHERE customer_id = ANY(CAST(:customers AS text[]))
    AND action IN ('subscription_started', 'subscription_ended', 'backfilled')
), told AS (
  SELECT subscription_id, action FROM entries WHERE action <> 'backfilled'
  UNION ALL
  SELECT subscription_id, 'subscription_started' FROM entries
  WHERE action = 'backfilled' AND before = '{}'
  UNION ALL
  SELECT subscription_id, 'subscription_ended' FROM entries
  WHERE action = 'backfilled' AND after ->> 'status' IN ('canceled', 'incomplete_expired')
)
SELECT subscription_id, action, count(*) AS entries FROM told GROUP BY subscription_id, action
""")


def check_truth(subject: Subject) -> Looking:
    """Hold the tables, and the gatekeeper if it is named, against what is true."""
    truths = subject.truths
    if truths is None:
        raise NotChecked("only simulated customers have an outcome that is known beforehand")
    grace = int(subject.grace.total_seconds())
    with snapshot(subject.engine) as connection:
        letters = [
            one for some in chunks(truths) for one in connection.execute(_LETTERS, _asked(some))
        ]
        if subject.letters_expected:
            troubled = {letter.customer_id for letter in letters}
            truths = [truth for truth in truths if truth.customer_id not in troubled]
        else:
            yield from map(_is_letter, letters)
        for some in chunks(truths):
            yield from _check_tables(connection, some, grace)
    looked = f"{count(len(truths), 'simulated customer')}"
    if subject.gatekeeper is not None:
        yield from asyncio.run(check_answers(*subject.gatekeeper, truths, grace))
        looked += ", and the gatekeeper's answers"
    return looked


def _is_letter(letter: Row[Any]) -> Finding:
    what = f"{letter.event_id} is a dead letter ({letter.reason}: {letter.error})"
    return Finding("I4", letter.customer_id, what)


def _check_tables(
    connection: Connection, truths: Sequence[CustomerTruth], grace: int
) -> Iterator[Finding]:
    asked = _asked(truths)
    rows = {row.subscription_id: row for row in connection.execute(_SUBSCRIPTIONS, asked)}
    known = {s.subscription_id: (t, s) for t in truths for s in t.subscriptions}
    for subscription_id in rows.keys() - known.keys():
        yield Finding("I4", rows[subscription_id].customer_id, f"{subscription_id} is made up")
    for subscription_id, (truth, subscription) in known.items():
        row = rows.get(subscription_id)
        for what in _row_differences(row, truth, subscription, grace):
            yield Finding("I4", truth.customer_id, f"{subscription_id}: {what}")
    yield from _check_references(connection, truths)
    yield from _check_trail(connection, known, asked)


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


def _check_references(connection: Connection, truths: Sequence[CustomerTruth]) -> Iterator[Finding]:
    found = connection.execute(_REFERENCES, _asked(truths))
    rows = {row.customer_id: row.reference for row in found}
    for truth in truths:
        reference = rows.get(truth.customer_id)
        if truth.customer_id not in rows:
            yield Finding("I4", truth.customer_id, "has no row")
        elif reference != truth.reference:
            what = f"reference is {reference}, not {truth.reference}"
            yield Finding("I4", truth.customer_id, what)


def _check_trail(
    connection: Connection,
    known: Mapping[str, tuple[CustomerTruth, SubscriptionTruth]],
    asked: Mapping[str, object],
) -> Iterator[Finding]:
    """Each subscription starts once, and ends once or never."""
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
                yield Finding("I4", truth.customer_id, f"{what}, not {wanted}")


def _asked(truths: Sequence[CustomerTruth]) -> dict[str, object]:
    return {"customers": [truth.customer_id for truth in truths]}


# --- the gatekeeper


async def check_answers(
    url: str, token: str | None, truths: Sequence[CustomerTruth], grace_seconds: int
) -> list[Finding]:
    """Ask for every customer, and again by its reference; return the wrong answers."""
    found: list[Finding] = []
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
                        found.append(Finding("I4", truth.customer_id, what))

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
