"""All that the doctor looks at, in one table, and the one function that looks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from sqlalchemy.exc import DBAPIError

from consumer.errors import Halt, Retry, verdict_of
from ops.doctor.cache import look_at_redis
from ops.doctor.clocks import look_at_database_clock, look_at_redis_clock
from ops.doctor.database import look_at_database, look_at_migrations
from ops.doctor.endpoints import look_at_backfill, look_at_endpoints
from ops.doctor.kafka import judge_brokers, judge_topic, look_at_group
from ops.doctor.line import Line, State, away, ok, unknown, wrong
from ops.doctor.positions import look_at_positions
from ops.doctor.pricing import look_at_plans, look_at_prices
from ops.doctor.processes import look_at_processes
from ops.doctor.signing import look_at_mode, look_at_secrets
from ops.doctor.site import Site, timed
from ops.invariants.event_log import AwayError
from ops.stripe_api.client import StripeError

SETTINGS = {
    "kafka": "HOOKLINE_KAFKA_BOOTSTRAP",
    "postgresql": "HOOKLINE_DATABASE_URL",
    "redis": "HOOKLINE_REDIS_URL",
    "endpoint": "HOOKLINE_STRIPE_API_BASE",
}
"""The setting that points at each server."""


@dataclass(frozen=True, slots=True)
class Look:
    """One thing to look at, and what must be there for it, by the `about` of its lines."""

    about: str
    look: Callable[[Site], Iterable[Line]]
    needs: tuple[str, ...] = ()


def look_at_version(_site: Site) -> Iterator[Line]:
    """Say which hookline this is."""
    yield ok("hookline", version("hookline"))


def look_at_brokers(site: Site) -> Iterator[Line]:
    """Say which brokers answer."""
    brokers, how = timed(site.kafka.brokers)
    settings = site.settings
    where = f"at {settings.kafka_bootstrap} (HOOKLINE_KAFKA_BOOTSTRAP), {how}"
    protocols = site.kafka.group_protocols(brokers[0])
    yield judge_brokers(len(brokers), protocols, settings.kafka_group_protocol, where)


def look_at_topic(site: Site) -> Iterator[Line]:
    """Say what the topic is, and who reads it."""
    settings = site.settings
    topic = site.kafka.topic()
    if topic is None:
        what = f"there is no topic {settings.kafka_topic}"
        yield wrong("topic", what, "hookline migrate, or mend HOOKLINE_KAFKA_TOPIC", blocks=True)
        return
    is_live = None if settings.livemode is None else settings.livemode == "live"
    yield from judge_topic(topic, is_live=is_live, single=settings.allow_single_broker)
    yield look_at_group(site.kafka, settings.kafka_group, topic.partitions)


LOOKS = (
    Look("hookline", look_at_version),
    Look("kafka", look_at_brokers),
    Look("topic", look_at_topic, ("kafka",)),
    Look("postgresql", look_at_database),
    Look("migrations", look_at_migrations, ("postgresql",)),
    Look("redis", look_at_redis),
    Look("positions", look_at_positions, ("kafka", "topic", "postgresql", "migrations")),
    Look("secrets", look_at_secrets, ("kafka", "topic")),
    Look("mode", look_at_mode, ("kafka", "topic")),
    Look("plans", look_at_plans),
    Look("prices", look_at_prices, ("plans", "postgresql", "migrations")),
    Look("clock", look_at_database_clock, ("postgresql",)),
    Look("clock", look_at_redis_clock, ("redis",)),
    Look("endpoint", look_at_endpoints),
    Look("backfill", look_at_backfill, ("postgresql", "migrations")),
    Look("processes", look_at_processes),
)


def examine(site: Site, looks: Iterable[Look] = LOOKS) -> Iterator[Line]:
    """Yield a line for each thing, a server that is away among them; blocks, changes nothing."""
    blocked: set[str] = set()
    for look in looks:
        missing = [need for need in look.needs if need in blocked]
        if missing:
            yield unknown(look.about, f"needs {missing[0]}")
            continue
        for line in _carefully(look, site):
            if line.blocks:
                blocked.add(line.about)
            yield line


def _carefully(look: Look, site: Site) -> Iterator[Line]:
    """Yield a look's lines; a server that does not answer is one of them."""
    try:
        yield from look.look(site)
    except AwayError as error:
        yield _away(look.about, str(error))
    except DBAPIError as error:
        verdict = verdict_of(error)
        if isinstance(verdict, Retry):
            yield _away(look.about, f"PostgreSQL: {verdict}")
        else:
            yield wrong(look.about, str(verdict), "hookline migrate", blocks=True)
    except StripeError as error:
        if error.is_away:
            yield _away(look.about, str(error))
        else:
            yield Line(look.about, State.WRONG, str(error))
    except (Retry, Halt) as verdict:
        yield _away(look.about, str(verdict))


def _away(about: str, says: str) -> Line:
    return away(about, says, SETTINGS.get(about, "its /readyz and log"))
