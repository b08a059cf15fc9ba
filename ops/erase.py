"""`hookline erase`: removes what a customer's events say; says what, and does it if told to."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.console import Console
from sqlalchemy import Engine

from consumer.storage.engine import make_engine
from consumer.storage.history import allow_long_statements, snapshot
from consumer.storage.invalidation import record_invalidation
from consumer.storage.removals import (
    Holding,
    erase_customer,
    find_holding,
    load_removals,
    lock_customer,
    record_removal,
)
from ops.counting import count
from ops.doctor.kafka import Kafka
from ops.explain.words import moment
from ops.invariants.event_log import AwayError
from ops.usage import require_customer
from schemas.settings import EraseSettings


def run(settings: EraseSettings, *, customer: str, yes: bool) -> int:
    """Remove a customer's events, dead letters and reference, or say what; return 0.

    Blocks; all of it or none, under the customer's lock, with the record that it was done. Safe
    to repeat. Raises UsageError or sqlalchemy's DBAPIError.
    """
    require_customer(customer)
    engine = make_engine(settings, "erase")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with snapshot(engine) as connection:
        holding = find_holding(connection, customer)
        erased_at = load_removals(connection, [customer]).erased.get(customer)
    if erased_at is not None:
        console.print(f"{customer} was erased on {moment(erased_at)} already.")
    if holding.is_empty:
        console.print(f"No event, dead letter or reference is stored of {customer}.")
        return 0
    console.print(f"{customer}: {describe(holding)}.")
    if not yes:
        console.print("Nothing was removed; --yes does it.")
        return 0
    console.print(f"Removed: {describe(erase(engine, customer))}.")
    for line in remains(settings, datetime.now(UTC)):
        console.print(line)
    return 0


def erase(engine: Engine, customer: str) -> Holding:
    """Remove it in one transaction, and return what was there under the lock."""
    with engine.begin() as connection:
        allow_long_statements(connection)
        lock_customer(connection, customer)
        holding = find_holding(connection, customer)
        erase_customer(connection, customer)
        record_removal(connection, customer, None, holding)
        record_invalidation(connection, [customer])
    return holding


def describe(holding: Holding) -> str:
    """Say what there is, without the reference itself."""
    parts = [count(holding.events, "event"), count(holding.dead_letters, "dead letter")]
    return ", ".join([*parts, "the reference" if holding.reference else "no reference"])


def remains(settings: EraseSettings, now: datetime) -> Iterator[str]:
    """Say what an erasure does not reach, a sentence each."""
    yield (
        "Kept: the subscriptions' rows and facts and the audit trail, which hold ids, prices, "
        "states and times, and the record of this erasure (table removals)."
    )
    yield f"Kafka: {_say_log(settings, now)}"
    yield (
        "Redis: a consumer drops the cached answer within a second; ids of events stay for four "
        "days at most."
    )
    yield (
        "Not reached: backups, and what Stripe holds. Events that Stripe sends from now on are "
        "recorded; after the restore of a backup, erase again."
    )


def _say_log(settings: EraseSettings, now: datetime) -> str:
    try:
        topic = Kafka(settings).topic()
    except AwayError as error:
        return f"records stay for the retention of {settings.kafka_topic} ({error})."
    kept = int(topic.config.get("retention.ms", -1)) if topic is not None else -1
    if kept < 0:
        return f"records of the customer stay in {settings.kafka_topic}, which drops none by age."
    until = now + timedelta(milliseconds=kept)
    return (
        f"records of the customer stay in {settings.kafka_topic} until {moment(until)} at the "
        "latest, its retention."
    )
