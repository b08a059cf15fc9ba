"""A deployment as the doctor reaches it: the settings, and one way to each server; opens lazily."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar
from urllib.parse import urlsplit

from redis import Redis, RedisError
from sqlalchemy import Engine

from consumer.storage.engine import make_engine
from ops.doctor.kafka import Kafka
from ops.doctor.sample import Sample, take_sample
from ops.invariants.cache import connect
from ops.invariants.event_log import AwayError, EventLog
from ops.stripe_api.client import StripeApi
from schemas.access import why_redis_refuses
from schemas.plans import Plans, load_plans
from schemas.settings import DoctorSettings

T = TypeVar("T")

STRIPE_SECONDS = 5.0
"""How long Stripe may take to answer a person who waits."""


@dataclass(frozen=True)
class Site:
    """One deployment; what is opened at first use blocks, and may raise AwayError."""

    settings: DoctorSettings
    admin_urls: tuple[str, ...] = ()
    webhook_url: str | None = None
    clock: Callable[[], float] = field(default=time.time)

    @cached_property
    def kafka(self) -> Kafka:
        """Kafka, asked about itself, the topic and the group."""
        return Kafka(self.settings)

    @cached_property
    def log(self) -> EventLog:
        """The topic's records."""
        return EventLog(self.settings.kafka_access(), self.settings.kafka_topic)

    @cached_property
    def engine(self) -> Engine:
        """PostgreSQL."""
        return make_engine(self.settings, "doctor")

    @cached_property
    def redis(self) -> "Redis":
        """Redis, or the primary that sentinels name."""
        return connect(self.settings.redis_url.get_secret_value())

    @cached_property
    def plans(self) -> Plans:
        """The plans file; raises PlansError."""
        return load_plans(self.settings.plans_file)

    @cached_property
    def sample(self) -> Sample:
        """What the newest records of the topic say."""
        return take_sample(self.log, self.settings.known_secrets())

    @cached_property
    def stripe(self) -> StripeApi | None:
        """Stripe's API, asked for a few seconds at most; None without a key."""
        key = self.settings.stripe_api_key
        if key is None:
            return None
        base = self.settings.stripe_api_base
        return StripeApi(key.get_secret_value(), base, patience=STRIPE_SECONDS)

    def close(self) -> None:
        """Close what was opened."""
        for name in ("log", "redis", "stripe"):
            if opened := self.__dict__.get(name):
                opened.close()


@contextmanager
def redis_away() -> Iterator[None]:
    """Turn what the client raises into an AwayError that names the setting to look at."""
    try:
        yield
    except RedisError as error:
        why = why_redis_refuses(str(error)) or f"Redis does not answer ({type(error).__name__})"
        raise AwayError(why) from error


def place_of(url: str) -> str:
    """Return host, port and path of a URL: what may be shown of it."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] + parts.path


def timed(question: Callable[[], T]) -> tuple[T, str]:
    """Return the answer, and how long it took in words."""
    began = time.perf_counter()
    answer = question()
    return answer, f"answers in {(time.perf_counter() - began) * 1000:.1f} ms"
