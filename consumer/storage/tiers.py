"""The tiers of the plans file in PostgreSQL, where the view customer_entitlements ranks by them."""

from sqlalchemy import Connection, delete, insert, select, text

from schemas.plans import Plans
from schemas.tables import plan_tiers


def write_tiers(connection: Connection, plans: Plans) -> bool:
    """Make the table plan_tiers equal the plans, and return whether it changed.

    Safe to repeat; the caller commits.
    """
    rows = [
        {"tier": tier, "rank": rank, "is_default": tier == plans.default}
        for rank, tier in enumerate(plans.tiers)
    ]
    connection.execute(text("LOCK TABLE plan_tiers IN SHARE ROW EXCLUSIVE MODE"))
    stored = connection.execute(select(plan_tiers).order_by(plan_tiers.c.rank)).mappings()
    if [dict(row) for row in stored] == rows:
        return False
    connection.execute(delete(plan_tiers))
    connection.execute(insert(plan_tiers), rows)
    return True
