"""Changing what hookline knows of a topic behind its back, while no consumer runs."""

import psycopg
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from support.invariants import log_ends
from support.pipeline import Pipeline


def admin(pipeline: Pipeline) -> AdminClient:
    """Return an admin client of the deployment's brokers."""
    return AdminClient({"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]})


def change(pipeline: Pipeline, statement: str) -> None:
    """Change the database behind hookline's back."""
    with psycopg.connect(pipeline.variables["HOOKLINE_DATABASE_URL"]) as connection:
        connection.execute(statement)


def start_again_from_zero(pipeline: Pipeline) -> None:
    """Forget how far the group is, in PostgreSQL and in Kafka."""
    change(pipeline, "DELETE FROM consumer_positions")
    topic, group = (
        pipeline.variables["HOOKLINE_KAFKA_TOPIC"],
        pipeline.variables["HOOKLINE_KAFKA_GROUP"],
    )
    zero = [TopicPartition(topic, partition, 0) for partition in log_ends(pipeline)]
    asked = [ConsumerGroupTopicPartitions(group, zero)]
    client = admin(pipeline)
    client.alter_consumer_group_offsets(asked)[group].result()
