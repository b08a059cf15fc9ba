"""What an operator does on processes that run, by commands: replay, and go on past a gap."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from support.load import check_outcome, histories, shuffled
from support.pipeline import Pipeline, hookline, recorded
from support.polling import eventually
from support.stripe import event, subscription


@pytest.fixture
def refusing(pipeline: Pipeline) -> Iterator[psycopg.Connection[object]]:
    """Provide a database that takes no subscription that has ended."""
    with psycopg.connect(pipeline.variables["HOOKLINE_DATABASE_URL"], autocommit=True) as database:
        database.execute(
            "ALTER TABLE subscriptions ADD CONSTRAINT refuses CHECK (status <> 'canceled')"
        )
        yield database


def test_what_was_refused_is_replayed_beside_running_consumers(
    pipeline: Pipeline, refusing: psycopg.Connection[object]
) -> None:
    """Events are set aside under load; fixed and replayed under load, all is as it must be."""
    pipeline.start("ingest", "gatekeeper", "consumer-1", "consumer-2")
    known = histories(12, "refused")
    documents = shuffled(known, copies=2)
    ids = {str(document["id"]) for document in documents}
    half = len(documents) // 2
    assert set(pipeline.post_all(documents[:half], threads=16)) == {200}
    sent = {str(document["id"]) for document in documents[:half]}
    eventually(lambda: recorded(pipeline) == len(sent), 60, "the first half")
    listed = json.loads(hookline(pipeline, "dead-letters", "list", "--json").stdout)
    assert set(listed["totals"]) == {"data"}

    refusing.execute("ALTER TABLE subscriptions DROP CONSTRAINT refuses")
    number = str(listed["dead_letters"][0]["dead_letter_id"])
    stored = pipeline.query("SELECT body FROM dead_letters ORDER BY dead_letter_id LIMIT 1")
    assert hookline(pipeline, "dead-letters", "show", number, "--body").stdout == stored[0][0]
    replays = [
        subprocess.Popen(  # noqa: S603 - our own command
            [
                str(Path(sys.executable).parent / "hookline"),
                *("dead-letters", "replay", "--all", "--yes"),
            ],
            env={**os.environ, **pipeline.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    assert set(pipeline.post_all(documents[half:], threads=16)) == {200}
    for replay in replays:
        _, problems = replay.communicate(timeout=120)
        assert replay.returncode == 0, problems
    eventually(lambda: recorded(pipeline) == len(ids), 60, "the second half")
    assert hookline(pipeline, "dead-letters", "list").stdout == b"Nothing is set aside and open.\n"
    check_outcome(pipeline, known)
    assert hookline(pipeline, "recompute").returncode == 0


def kafka_of(pipeline: Pipeline) -> str:
    """Return what readiness says of Kafka; nothing until it answers."""
    try:
        return str(pipeline.readiness("consumer-2")[1]["checks"]["kafka"])
    except httpx.HTTPError:
        return ""


def test_a_gap_stops_one_partition_until_it_is_accepted(pipeline: Pipeline) -> None:
    """Records that retention took are told by number; accepted, the others flow again."""
    pipeline.start("ingest", "consumer-1")
    placed = pipeline.post(event("customer.subscription.created", subscription())).json()
    eventually(lambda: recorded(pipeline) == 1, what="the first event")
    pipeline.members["consumer-1"].process.stop()
    for _ in range(3):
        pipeline.post(event("customer.subscription.updated", subscription("past_due")))
    lost = placed["offset"] + 3
    topic, partition = placed["topic"], placed["partition"]
    admin = AdminClient({"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]})
    (deleted,) = admin.delete_records([TopicPartition(topic, partition, lost)]).values()
    deleted.result()

    pipeline.launch("consumer-2")
    eventually(lambda: "records 1 to 2 are gone" in kafka_of(pipeline), what="saying so")
    shown = hookline(pipeline, "positions", "show")
    assert shown.returncode == 3
    assert b"out of range: the log begins at 3, 2 records missing" in shown.stdout
    accepted = hookline(pipeline, "positions", "accept-gap", "--partition", str(partition), "--yes")
    assert accepted.returncode == 0, accepted.stderr
    assert b"Given up: offsets 1 to 2, 2 records" in accepted.stdout
    # The consumer that stopped there takes it up as it is.
    eventually(lambda: recorded(pipeline) == 2, what="the event after the gap")
    eventually(lambda: pipeline.readiness("consumer-2")[0] == httpx.codes.OK)
    assert hookline(pipeline, "positions", "show").returncode == 0
