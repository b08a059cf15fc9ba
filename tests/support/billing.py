"""Folding events in a test: the billing core without anything around it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from consumer.billing.facts import NO_FACTS, Fact, FactSet
from consumer.billing.handlers import read_event
from consumer.billing.merge import merge
from consumer.billing.projection import Projection, Row, project
from schemas.plans import Plans
from support.stripe import T0, Json, decoded

GRACE = timedelta(hours=24)
PLANS = Plans(
    default="starter",
    tiers=("starter", "pro", "enterprise"),
    prices={"price_pro": "pro", "price_ent": "enterprise", "price_starter": "starter"},
    lookup_keys={},
    products={},
)


@dataclass(frozen=True)
class Owned:
    """A subscription as entitlement reads it."""

    subscription_id: str
    row: Row

    @property
    def status(self) -> str:
        """As the row says."""
        return self.row.status

    @property
    def tier(self) -> str:
        """As the row says."""
        return self.row.tier

    @property
    def current_period_end(self) -> datetime | None:
        """As the row says."""
        return self.row.current_period_end

    @property
    def grace_until(self) -> datetime | None:
        """As the row says."""
        return self.row.grace_until


def fold(events: Iterable[Json], start: FactSet = NO_FACTS) -> dict[str, FactSet]:
    """Merge events one by one, as they come; returns the facts of each subscription."""
    found: dict[str, FactSet] = {}
    for document in events:
        reading = read_event(decoded(document))
        if reading.subscription is not None and reading.fact is not None:
            known = found.get(reading.subscription, start)
            found[reading.subscription] = merge(known, frozenset({reading.fact}))
    return found


def every_order(facts: Sequence[Fact], known: FactSet = NO_FACTS) -> Iterator[FactSet]:
    """Yield the state after each order of facts; orders share the merges they begin with."""
    if not facts:
        yield known
    for place, fact in enumerate(facts):
        rest = [*facts[:place], *facts[place + 1 :]]
        yield from every_order(rest, merge(known, frozenset({fact})))


def projected(events: Iterable[Json], subscription: str = "sub_1") -> Projection:
    """Return the projection of one subscription after events."""
    return project(fold(events)[subscription], PLANS, GRACE)


def after(seconds: int) -> datetime:
    """Return the moment so many seconds after T0."""
    return datetime.fromtimestamp(T0 + seconds, UTC)
