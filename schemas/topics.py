"""The topic between ingest and consumer: its shape when hookline makes it; no I/O."""

PARTITIONS = 12
"""Fixed when the topic is made: another count maps customers to other partitions."""

RETENTION_MS = 14 * 24 * 3600 * 1000
"""Four times as long as Stripe sends an event again; a consumer may be away that long."""

LEAST_RETENTION_MS = 7 * 24 * 3600 * 1000
"""Below it an outage over a long weekend could outlast the records."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""Above ingest's body limit of 512 KiB with its headers."""

REPLICATION = 3
MIN_INSYNC = 2


def topic_config(replication: int) -> dict[str, str]:
    """Return the configuration a new topic of that many replicas gets."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(RETENTION_MS),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": str(min(MIN_INSYNC, replication)),
        "unclean.leader.election.enable": "false",
    }
