"""The plans file against the prices that subscriptions have."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, select, text

from consumer.billing.facts import ENDED, Invoice, Price, Snapshot, decode_facts
from consumer.billing.projection import Projection, project
from consumer.storage.history import snapshot
from ops.counting import count
from ops.doctor.line import Line, ok, wrong
from ops.doctor.site import Site
from schemas.plans import Plans, PlansError
from schemas.plans import Price as PlanPrice
from schemas.tables import plan_tiers

SHOWN = 5
LOOKED_AT = 1_000
"""Subscriptions without a known price that are projected again."""

_PRICES = text("SELECT DISTINCT unnest(prices) FROM subscriptions ORDER BY 1")
# One subscription tells which product and lookup key a price has.
_EXAMPLES = text("""
SELECT DISTINCT ON (price) price, CAST(facts AS text) AS facts
FROM subscriptions, unnest(prices) AS price
WHERE price = ANY(CAST(:prices AS text[])) ORDER BY price, updated_at DESC
""")
_CANDIDATES = text("""
SELECT customer_id, CAST(facts AS text) AS facts FROM subscriptions
WHERE cardinality(prices) > 0 AND prices <@ CAST(:prices AS text[])
  AND status <> ALL(CAST(:ended AS text[]))
LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Mapped:
    """The prices that subscriptions have, and what becomes of those without a tier."""

    prices: Collection[str]
    unmapped: Collection[str]
    customers: Sequence[str]
    """Whose subscriptions, not ended, have no other price and so the default tier."""


def look_at_plans(site: Site) -> Iterator[Line]:
    """Say what the plans file gives."""
    try:
        plans = site.plans
    except PlansError as error:
        sentences = "; ".join(str(error).splitlines())
        yield wrong("plans", sentences, "mend the file of HOOKLINE_PLANS_FILE", blocks=True)
        return
    entries = sum(map(len, (plans.prices, plans.lookup_keys, plans.products)))
    gives = f"gives {count(entries, 'entry', 'entries')} one of {', '.join(plans.tiers)}"
    file = f"{site.settings.plans_file} (HOOKLINE_PLANS_FILE)"
    yield ok("plans", f"{file} {gives}; {plans.default} without")


def look_at_prices(site: Site) -> Iterator[Line]:
    """Say which prices of subscriptions give no tier, and whether PostgreSQL has our tiers."""
    plans = site.plans
    with snapshot(site.engine) as connection:
        yield judge_prices(_read_prices(connection, plans), plans, str(site.settings.plans_file))
        yield judge_tiers(_read_tiers(connection), plans)


def judge_prices(found: Mapped, plans: Plans, file: str) -> Line:
    """Judge prices without a tier by whether anybody has to do without because of them."""
    names = ", ".join(sorted(found.unmapped)[:SHOWN])
    more = len(found.unmapped) - SHOWN
    names += f" and {more} more" if more > 0 else ""
    if found.customers:
        many = "or more" if len(found.customers) == LOOKED_AT else ""
        who = f"{count(len(found.customers), 'subscription')} {many}".strip()
        return wrong(
            "prices",
            f"without a tier: {names}; so {who}, of {found.customers[0]} for one, can have only "
            f"the default {plans.default}",
            f"add them to [prices] in {file}, start the consumers again, then "
            "`hookline recompute --apply`",
        )
    if not found.prices:
        return ok("prices", "no subscription has a price that could be missing")
    fact = f"{count(len(found.prices), 'price')} of subscriptions, all with a tier"
    if not found.unmapped:
        return ok("prices", fact)
    return ok("prices", f"without a tier: {names}; whoever has them has another price besides")


def judge_tiers(stored: list[str], plans: Plans) -> Line:
    """Hold the tiers by which the view ranks against those of the file."""
    if stored == list(plans.tiers):
        return ok("tiers", f"customer_entitlements ranks by {', '.join(stored)}, as the file does")
    return wrong(
        "tiers",
        f"customer_entitlements ranks by {', '.join(stored) or 'nothing'}, the file by "
        f"{', '.join(plans.tiers)}",
        "hookline migrate, and start the consumers again with this file",
    )


def _read_prices(connection: Connection, plans: Plans) -> Mapped:
    prices = list(connection.scalars(_PRICES))
    unknown = [price for price in prices if price not in plans.prices]
    examples = {
        row.price: _find_price(row.price, row.facts)
        for row in connection.execute(_EXAMPLES, {"prices": unknown})
    }
    unmapped = [price for price in unknown if not _has_tier(examples, price, plans)]
    return Mapped(prices, unmapped, _find_without(connection, unmapped, plans))


def _find_without(connection: Connection, unmapped: Sequence[str], plans: Plans) -> list[str]:
    """Return the customers of subscriptions that get no tier but the default, projected anew.

    A tier in metadata counts, as it does for the consumer.
    """
    asked = {"prices": unmapped, "ended": sorted(ENDED), "most": LOOKED_AT}
    return [
        row.customer_id
        for row in connection.execute(_CANDIDATES, asked)
        if _is_without(project(decode_facts(row.facts), plans, timedelta()), plans)
    ]


def _is_without(projection: Projection, plans: Plans) -> bool:
    return not projection.mapped and projection.row.tier == plans.default


def _has_tier(examples: Mapping[str, PlanPrice], price: str, plans: Plans) -> bool:
    _, is_mapped = plans.tier_of([examples.get(price, PlanPrice(price))], None)
    return is_mapped


def _find_price(price: str, facts: str) -> PlanPrice:
    """Return what the facts of a subscription know of a price of theirs."""
    found = PlanPrice(price)
    for known in _prices_in(facts):
        if known.id == price:
            found = PlanPrice(
                price, known.product or found.product, known.lookup_key or found.lookup_key
            )
    return found


def _prices_in(facts: str) -> Iterator[Price]:
    for fact in decode_facts(facts):
        if isinstance(fact, Snapshot):
            yield from fact.after.prices
        elif isinstance(fact, Invoice):
            yield from fact.prices


def _read_tiers(connection: Connection) -> list[str]:
    return list(connection.scalars(select(plan_tiers.c.tier).order_by(plan_tiers.c.rank)))
