"""Ties that no event settles, settled by one question to Stripe each; blocks on both."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Engine, text

from consumer.billing.facts import Snapshot, decode_facts
from consumer.billing.merge import WINDOW_SECONDS
from consumer.learn import Learner
from consumer.storage.history import snapshot
from ops.stripe_api.client import StripeApi
from ops.stripe_api.reading import Phase, Reader

SETTLED_SECONDS = WINDOW_SECONDS + 2
"""A tie this old: what Stripe says then drops both of its states from the facts."""

TIES_AT_ONCE = 20
ASK_AGAIN_SECONDS = 3600.0
"""One that Stripe's answer did not settle, such as of a subscription that it does not know."""

# By the index of those rows alone: asked for every few seconds.
_TIES = text("""
SELECT subscription_id, CAST(facts AS text) AS facts FROM subscriptions WHERE ambiguous
ORDER BY updated_at LIMIT 500
""")


@dataclass(slots=True)
class Ties:
    """Looks for ties; each is asked about once, however many events it came from."""

    engine: Engine
    clock: Callable[[], float] = time.time
    _not_before: dict[str, float] = field(default_factory=dict)

    def find(self) -> dict[str, int]:
        """Return ambiguous subscriptions that are old enough, and the second of each tie."""
        with snapshot(self.engine) as connection:
            rows = connection.execute(_TIES).all()
        now = self.clock()
        names = {row.subscription_id for row in rows}
        self._not_before = {n: at for n, at in self._not_before.items() if n in names}
        due = ((row.subscription_id, _second_of(row.facts)) for row in rows)
        ready = [
            (name, second)
            for name, second in due
            if second + SETTLED_SECONDS < now and self._not_before.get(name, 0.0) <= now
        ]
        return dict(ready[:TIES_AT_ONCE])

    def settle(
        self, ties: dict[str, int], api: StripeApi, reader: Reader, learner: Learner
    ) -> Iterator[str]:
        """Ask Stripe of each tie and merge the answer; yield those that are settled.

        Raises StripeError, Retry or Halt.
        """
        for name, second in ties.items():
            self._not_before[name] = self.clock() + ASK_AGAIN_SECONDS
            found = api.find_subscription(name, {"expand[]": "latest_invoice"})
            if found is None or found[1] <= second + WINDOW_SECONDS:
                continue
            part = reader.read(Phase.SUBSCRIPTIONS, [found[0]], found[1])
            if learner.learn(part.fetched, is_backfill=False).changes:
                yield name


def _second_of(facts: str) -> int:
    snapshots = [fact.at for fact in decode_facts(facts) if isinstance(fact, Snapshot)]
    return max(snapshots, default=0)
