"""I7: every cached entitlement is what the database answers, or is not there."""

import re
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from sqlalchemy import Row, text

from consumer.billing.entitlement import entitle
from consumer.storage.redis_session import find_primary
from ops.counting import count
from ops.invariants.subject import Finding, Looking, NotChecked, Subject, chunks
from schemas.entitlement import Entitlement
from schemas.redis_keys import entitlement_key

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 5.0
CLOCK = timedelta(seconds=1)
KEY = re.compile(r"entitlement:(?P<generation>[^:{}]+):\{(?P<customer>[^{}]+)\}")
"""An entry; the key of a lease has one part more."""

# As the gatekeeper reads, for many customers at a time.
_OWNED = text("""
SELECT customer.customer_id, customer.version, owned.subscription_id, owned.status, owned.tier,
  owned.current_period_end, owned.grace_until
FROM customers AS customer LEFT JOIN subscriptions AS owned USING (customer_id)
WHERE customer.customer_id = ANY(CAST(:customers AS text[])) ORDER BY customer.customer_id
""")


def connect(url: str) -> "Redis":
    """Return a client of the server, or of the primary that sentinels name; raises RedisError."""
    found = find_primary(url) if "+sentinel" in urlsplit(url).scheme else url
    return Redis.from_url(
        found, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
    )


def check_cache(subject: Subject) -> Looking:
    """Compare each entry that a reader could get, and again before it counts.

    A consumer drops an entry a moment after its commit, so a difference must last for
    `patience_seconds`. Entries of another generation of the server are out of every reader's reach.
    """
    redis = subject.redis
    if redis is None:
        raise NotChecked("no Redis was named")
    generation = str(redis.info("server")["run_id"])
    looked = others = 0
    for keys in chunks(redis.scan_iter("entitlement:*", count=1_000)):
        found = [match for key in keys if (match := KEY.fullmatch(key.decode("utf-8", "replace")))]
        mine = {match["customer"] for match in found if match["generation"] == generation}
        looked += len(mine)
        others += len(found) - len(mine)
        yield from _lasting(subject, redis, generation, mine)
    old = f", {count(others, 'answer')} of another generation" if others else ""
    return count(looked, "cached answer") + old


def _lasting(
    subject: Subject, redis: "Redis", generation: str, customers: Collection[str]
) -> Iterator[Finding]:
    """Yield the differences that are there at every look until the deadline."""
    deadline = time.monotonic() + subject.patience_seconds
    wrong = _find_wrong(subject, redis, generation, customers)
    while wrong and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        again = _find_wrong(subject, redis, generation, wrong)
        wrong = {who: what for who, what in again.items() if what == wrong[who]}
    for customer, what in wrong.items():
        yield Finding("I7", customer, what)


def _find_wrong(
    subject: Subject, redis: "Redis", generation: str, customers: Collection[str]
) -> dict[str, str]:
    """Return what is wrong now of these customers' entries."""
    asked = sorted(customers)
    if not asked:
        return {}
    before = datetime.now(UTC) - CLOCK
    values = redis.mget([entitlement_key(generation, customer) for customer in asked])
    rows = _load_owned(subject, asked)
    wrong = {}
    for customer, value in zip(asked, values, strict=True):
        if value is None:
            continue
        moments = (before, datetime.now(UTC) + CLOCK)
        right = [_answer(subject, customer, rows.get(customer, []), at) for at in moments]
        what = _difference(value, right, before)
        if what is not None:
            wrong[customer] = what
    return wrong


def _load_owned(subject: Subject, customers: list[str]) -> Mapping[str, list[Row[Any]]]:
    with subject.engine.connect() as connection:
        rows = connection.execute(_OWNED, {"customers": customers}).all()
    return {customer: list(own) for customer, own in groupby(rows, key=attrgetter("customer_id"))}


def _answer(subject: Subject, customer: str, rows: list[Row[Any]], at: datetime) -> Entitlement:
    owned = [row for row in rows if row.subscription_id is not None]
    version = rows[0].version if rows else 0
    return entitle(customer, owned, at, subject.plans, version=version)


def _difference(value: bytes | str, right: list[Entitlement], now: datetime) -> str | None:
    try:
        cached = Entitlement.decode(value)
    except ValueError:
        return "the cached answer cannot be read"
    if not cached.holds_at(now):
        return None
    shown = _shown(cached)
    if shown in map(_shown, right):
        return None
    return f"the cache says {_say(shown)}; the database {_say(_shown(right[0]))}"


def _shown(answer: Entitlement) -> tuple[object, ...]:
    return answer.customer, answer.tier, answer.entitled, answer.status, answer.grace_until


def _say(shown: tuple[object, ...]) -> str:
    customer, tier, entitled, status, grace = shown
    access = "entitled" if entitled else "not entitled"
    return f"{customer}: {tier}, {access}, {status}{f', grace until {grace}' if grace else ''}"
