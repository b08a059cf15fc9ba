"""One question, "what may this customer use now?": the cache, else a lease and the primary.

Whatever waits here waits for the cache or the primary alone, so that a test can take every turn
in between.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from consumer.gatekeeper.cache import ABSENT, Cache
from consumer.gatekeeper.primary import Primary
from schemas.entitlement import CUSTOMER_ID, Entitlement, is_reference
from schemas.plans import Plans

Watch = Callable[[Entitlement], None]
"""Told of each answer out of the cache; must not wait."""


class Malformed(ValueError):  # noqa: N818 - named by what the caller is told
    """What was asked for can be nobody's id."""


class Reader:
    """Answers what a customer may use; for one event loop."""

    def __init__(
        self,
        cache: Cache,
        primary: Primary,
        plans: Plans,
        *,
        watch: Watch = lambda _hit: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._primary = primary
        self._plans = plans
        self._watch = watch
        self._now = now
        self._monotonic = monotonic

    async def by_customer(self, customer: str) -> Entitlement:
        """Return a customer's answer; one never seen has the default tier, and is not entitled.

        Raises Malformed, or Unreadable if neither Redis nor PostgreSQL can answer.
        """
        if not CUSTOMER_ID.fullmatch(customer):
            raise Malformed("a customer's id looks like cus_9s6XKzkNRiz8i3")
        found = await self._cache.get(customer)
        if isinstance(found, Entitlement) and found.holds_at(self._now()):
            self._watch(found)
            return found
        # Past its time it counts as a miss; where Redis does not answer it is not asked again.
        is_known = found is ABSENT or isinstance(found, Entitlement)
        lease = await self._cache.take_lease(customer) if is_known else None
        fresh = await self._primary.by_customer(customer)
        if lease is not None:
            await self._cache.fill(lease, fresh.answer, fresh.lifetime(self._monotonic()))
        return fresh.answer

    async def by_reference(self, reference: str) -> Entitlement:
        """Return the best answer among the customers of the application's own id.

        Best is: entitled, then the higher tier, then the greater customer id. Where there is no
        customer, `customer` is None and the rest as for one never seen. Always out of PostgreSQL:
        no entry says whose a reference is. Raises Malformed or Unreadable.
        """
        if not is_reference(reference):
            raise Malformed("a reference is 1 to 500 printable characters")
        return await self._primary.by_reference(reference) or self._nobody()

    def _nobody(self) -> Entitlement:
        return Entitlement(None, self._plans.default, False, None, None, None, 0)  # noqa: FBT003
