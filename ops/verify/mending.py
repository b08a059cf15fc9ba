"""Differences put right: what the events say first, then what Stripe says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from consumer.fetched import Fetched
from consumer.learn import Learner
from consumer.repair import Repair
from ops.verify.comparing import MENDABLE, Difference


@dataclass(frozen=True, slots=True)
class Mender:
    """Merges what Stripe answered; for one caller at a time. Raises Retry or Halt."""

    repair: Repair
    learner: Learner
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def mend(self, found: Sequence[Difference]) -> Iterator[Difference]:
        """Write what Stripe answered, one transaction a difference; yield what was written.

        Safe to repeat, and beside consumers.
        """
        for one in found:
            if one.kind in MENDABLE and one.fetched is not None:
                self._mend(one.customer_id, one.fetched)
                yield one

    def _mend(self, customer: str, fetched: Fetched) -> None:
        # A row that is not what its facts say would not change by one more fact.
        findings = self.repair.examine_one(customer)
        if findings.differences:
            self.repair.mend(findings, self.now)
        self.learner.learn([fetched], is_backfill=False)
