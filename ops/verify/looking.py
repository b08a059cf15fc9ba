"""Stripe's present state fetched and held against the rows; blocks on Stripe and PostgreSQL.

Nothing is locked. What differs is looked at once more after a while: an event that was on its way
must not look like one that never came.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine, text

from consumer.billing.handlers import read_event
from consumer.fetched import Fetched
from consumer.recompute import StoredState
from consumer.repair import Repair
from consumer.storage.history import (
    allow_long_statements,
    load_open_letters,
    load_rows,
    snapshot,
)
from consumer.storage.stored_letters import StoredLetter, load_letters
from ops.stripe_api.client import StripeApi
from ops.stripe_api.reading import LISTS, Phase, Reader
from ops.verify.comparing import Comparison, Difference, compare, explain
from schemas.labels import DriftKind as Kind
from schemas.plans import Plans
from schemas.stripe_event import BadEvent, Json, decode_event

ROWS_AT_ONCE = 500

TIMES_DRAWN = 20
LEAST_DRAWN = 1_000
"""Rows of a sample are drawn from so many more, which come by blocks: written at the same time."""

# Of a million rows, 0.7 GB, in 20 ms; to order all of them by chance took 2.4 s.
_SAMPLE = text("""
SELECT subscription_id, customer_id
FROM subscriptions TABLESAMPLE SYSTEM (least(100, 100.0 * :drawn / greatest(1, (
  SELECT reltuples FROM pg_class WHERE oid = CAST('subscriptions' AS regclass)
))))
ORDER BY random() LIMIT :size
""")
_PAGE = text("""
SELECT subscription_id, customer_id FROM subscriptions
WHERE subscription_id > :after ORDER BY subscription_id LIMIT :size
""")
_ONE_EXPANDED = {"expand[]": "latest_invoice"}


@dataclass(frozen=True, slots=True)
class Verifier:
    """Compares subscriptions with Stripe; for one caller at a time. Raises StripeError."""

    engine: Engine
    api: StripeApi
    reader: Reader
    plans: Plans
    grace: timedelta

    def compare_all(self) -> Iterator[Difference | None]:
        """Yield a difference or None for each subscription of Stripe's, and each stored one."""
        seen: set[str] = set()
        listing, params = LISTS[Phase.SUBSCRIPTIONS]
        for page in self.api.walk(listing, params):
            objects = page.objects
            seen.update(str(obj.get("id")) for obj in objects)
            yield from self._compare(objects, page.at)
        for name, customer in self._stored():
            if name not in seen:
                yield self._compare_one(name, customer)

    def compare_some(self, size: int) -> Iterator[Difference | None]:
        """Yield the same for so many stored ones, drawn at random, and Stripe's newest ones."""
        listing, params = LISTS[Phase.SUBSCRIPTIONS]
        page = self.api.list(listing, {**params, "limit": min(size, 100)})
        objects = page.objects
        seen = {str(obj.get("id")) for obj in objects}
        yield from self._compare(objects, page.at)
        with snapshot(self.engine) as connection:
            drawn = connection.execute(
                _SAMPLE, {"size": size, "drawn": TIMES_DRAWN * size + LEAST_DRAWN}
            ).all()
        for row in drawn:
            if row.subscription_id not in seen:
                yield self._compare_one(row.subscription_id, row.customer_id)

    def look_again(self, found: Sequence[Difference], seconds: float) -> Iterator[Difference]:
        """Yield what still differs after so long."""
        if found:
            time.sleep(seconds)
        for one in found:
            again = self._compare_one(one.subscription_id, one.customer_id)
            if again is not None:
                yield again

    def differs(self, fetched: Fetched) -> bool:
        """Tell whether a row is still not what Stripe answered, without asking again."""
        with snapshot(self.engine) as connection:
            rows = load_rows(connection, (), [fetched.subscription or ""])
        stored = StoredState.read(rows[0]) if rows else None
        return bool(compare(stored, fetched, self.plans, self.grace).fields)

    def _compare_one(self, name: str, customer: str) -> Difference | None:
        found = self.api.find_subscription(name, _ONE_EXPANDED)
        if found is None:
            sentence = "Stripe knows no such subscription: is the key one of this account?"
            return Difference(name, customer, Kind.NOT_AT_STRIPE, sentence)
        obj, at = found
        return next(self._compare([obj], at), None)

    def _compare(self, objects: Sequence[Json], at: int) -> Iterator[Difference | None]:
        part = self.reader.read(Phase.SUBSCRIPTIONS, objects, at)
        for name, why in part.unreadable.items():
            yield Difference(name, "", Kind.UNREADABLE, f"Stripe's answer cannot be read: {why}")
        fetched = {one.subscription: one for one in part.fetched if one.subscription}
        with snapshot(self.engine) as connection:
            rows = load_rows(connection, (), fetched)
            stored = {row["subscription_id"]: StoredState.read(row) for row in rows}
            for name, one in fetched.items():
                found = compare(stored.get(name), one, self.plans, self.grace)
                yield None if found.is_sound else self._explain(connection, found)

    def _explain(self, connection: Connection, found: Comparison) -> Difference:
        fetched = found.fetched
        repair = Repair(self.engine, self.plans, self.grace)
        owner = found.stored.customer_id if found.stored else fetched.customer
        findings = next(repair.examine(connection, [owner]))
        open_ = [one.dead_letter_id for one in load_open_letters(connection, owner)]
        letters = load_letters(connection, open_)
        about = [one.dead_letter_id for one in letters if _is_about(one, fetched.subscription)]
        return explain(found, findings, about)

    def _stored(self) -> Iterator[tuple[str, str]]:
        after = ""
        while True:
            with snapshot(self.engine) as connection:
                allow_long_statements(connection)
                page = connection.execute(_PAGE, {"after": after, "size": ROWS_AT_ONCE}).all()
            for row in page:
                yield row.subscription_id, row.customer_id
            if len(page) < ROWS_AT_ONCE:
                return
            after = page[-1].subscription_id


def _is_about(letter: StoredLetter, subscription: str | None) -> bool:
    """Tell whether a record that was set aside is about a subscription; in doubt it is."""
    try:
        return read_event(decode_event(letter.body or b"")).subscription == subscription
    except BadEvent:
        return False
    except Exception:  # noqa: BLE001 - what made it fail may fail here as well
        return True
