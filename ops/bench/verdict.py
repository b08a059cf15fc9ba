"""Whether a run may count: the invariants, held against what is left when it has ended."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from pathlib import Path

from pydantic import SecretStr
from redis import Redis

from consumer.storage.engine import make_engine
from ops.bench.bed import Deployment
from ops.invariants.checker import check, summarize
from ops.invariants.event_log import EventLog
from ops.invariants.subject import Subject
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings

HOOKLINE = ("I1", "I2", "I3", "I4", "I5", "I6", "I10")
WITHOUT_REST = tuple(id_ for id_ in HOOKLINE if id_ != "I6")
"""Where rows that name cache entries stay, as nobody can tell Redis or is there to sweep them."""

PEER = ("I1", "I2", "I4")
"""What holds of anybody's rows: nothing lost, nothing twice, the outcome as it is known."""


class Extent(Enum):
    """Whose rows are folded again and compared; every event is looked for in any case."""

    ALL = "everybody's"
    OWN = "those of the run's own customers"
    SAMPLE = "those of some of them"


SAMPLED_CUSTOMERS = 400
SAMPLED_RECORDS = 5_000


def judge(
    deployment: Deployment,
    invariants: Collection[str] = HOOKLINE,
    extent: Extent = Extent.ALL,
) -> tuple[str, list[str]]:
    """Check a deployment at rest; returns what was checked in words, and the problems.

    An invariant that could not be checked is a problem too. Blocks.
    """
    with _subject(deployment, extent) as subject:
        results = check(subject, invariants, most=5)
    problems = [str(finding) for result in results for finding in result.findings]
    problems += [f"{r.invariant.id}: {r.looked_at}" for r in results if not r.is_checked]
    if not deployment.topic.traffic.has_poison:
        problems += [
            f"dead letter: {reason}: {error}"
            for reason, error in deployment.query("SELECT reason, error FROM dead_letters LIMIT 5")
        ]
    return summarize(results), problems


@contextmanager
def _subject(deployment: Deployment, extent: Extent) -> Iterator[Subject]:
    variables, traffic = deployment.variables, deployment.topic.traffic
    sampled = extent is Extent.SAMPLE
    truths = traffic.truths[:SAMPLED_CUSTOMERS] if sampled else traffic.truths
    customers = [truth.customer_id for truth in truths]
    settings = DatabaseSettings(database_url=SecretStr(deployment.database_url))
    engine = make_engine(settings, "bench")
    log = EventLog({"bootstrap.servers": deployment.bed.bootstrap}, deployment.topic.name)
    with Redis.from_url(deployment.bed.redis_url) as redis:
        try:
            yield Subject(
                engine=engine,
                plans=load_plans(Path(variables["HOOKLINE_PLANS_FILE"])),
                grace=timedelta(hours=float(variables["HOOKLINE_GRACE_HOURS"])),
                group=variables["HOOKLINE_KAFKA_GROUP"],
                log=log,
                records=SAMPLED_RECORDS if sampled else None,
                redis=redis
                if variables["HOOKLINE_REDIS_URL"] == deployment.bed.redis_url
                else None,
                customers=None if extent is Extent.ALL else customers,
                accepted=traffic.accepted,
                truths=truths,
                letters_expected=traffic.has_poison,
            )
        finally:
            log.close()
            engine.dispose()
