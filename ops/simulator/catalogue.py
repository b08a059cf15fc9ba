"""What the simulated company sells; pure. The sample plans file maps the same lookup keys."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """A price at Stripe, and the tier that it buys."""

    price: str
    product: str
    lookup_key: str
    amount: int
    tier: str


PLANS = (
    Plan("price_sim_starter", "prod_sim_starter", "starter_monthly", 900, "starter"),
    Plan("price_sim_pro", "prod_sim_pro", "pro_monthly", 2900, "pro"),
    Plan("price_sim_enterprise", "prod_sim_enterprise", "enterprise_monthly", 19900, "enterprise"),
)
TIERS = tuple(plan.tier for plan in PLANS)
"""Lowest first."""

DEFAULT_TIER = "starter"
ADD_ON = Plan("price_sim_seats", "prod_sim_seats", "extra_seats", 500, DEFAULT_TIER)
"""Sold beside a plan and mapped to no tier: it must never decide one."""
