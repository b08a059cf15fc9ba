"""Bring database and topic to what this version needs."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from sqlalchemy import Connection, text

from consumer.storage.engine import make_engine
from consumer.storage.partitions import attach_months
from consumer.storage.tiers import write_tiers
from schemas.access import Refusals
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings, KafkaSettings, MigrateSettings
from schemas.topics import PARTITIONS, REPLICATION, topic_config

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 4_704_021_765_389_107_712
"""Advisory lock of migrations: any number that no other program of the database uses."""
TIMEOUT_SECONDS = 15


class TopicError(Exception):
    """The topic could not be made; one sentence."""


def migrate(settings: MigrateSettings) -> None:
    """Apply all migrations, attach this season's partitions, write the tiers, make the topic.

    Safe to repeat; several at once wait for each other. Blocks; an existing topic is never
    altered. Raises PlansError, sqlalchemy's DBAPIError or TopicError.
    """
    plans = load_plans(settings.plans_file)
    with connect_for_migration(settings) as connection:
        upgrade(connection)
        write_tiers(connection, plans)
        attach_months(connection, datetime.now(UTC).date())
        connection.commit()
    make_topic(settings)


def connect_for_migration(settings: DatabaseSettings) -> Connection:
    """Open a connection whose statements may take as long as a migration needs."""
    connection = make_engine(settings, "migrate").connect()
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text("SET lock_timeout = 0"))
    connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
    connection.commit()
    return connection


def upgrade(connection: Connection) -> None:
    """Run alembic up to the newest revision, one process at a time, in the open transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def make_topic(settings: KafkaSettings, partitions: int = PARTITIONS) -> bool:
    """Create the topic if it is missing, and return whether this call did; never alter one."""
    refusals = Refusals()
    config: dict[str, Any] = {**settings.kafka_access(), "error_cb": refusals.note}
    admin = AdminClient(config, logger=logging.getLogger("kafka"))
    try:
        metadata = admin.list_topics(timeout=TIMEOUT_SECONDS)
        if settings.kafka_topic in metadata.topics:
            return False
        replication = min(REPLICATION, len(metadata.brokers))
        topic = NewTopic(
            settings.kafka_topic, partitions, replication, config=topic_config(replication)
        )
        admin.create_topics([topic], request_timeout=TIMEOUT_SECONDS)[settings.kafka_topic].result()
    except KafkaException as error:
        if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
            return False
        admin.poll(0)
        raise TopicError(
            refusals.why
            or f"Kafka at {settings.kafka_bootstrap} did not make the topic "
            f"{settings.kafka_topic}: {error.args[0].str()}"
        ) from error
    log.info("topic_made", topic=settings.kafka_topic, replication=replication)
    return True
