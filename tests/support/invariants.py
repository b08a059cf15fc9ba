"""The invariants in a test: a running deployment as the checks want it, and the demand itself."""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine

from consumer.kafka import committed_offsets
from consumer.storage.engine import make_engine
from ops.invariants.checker import check
from ops.invariants.event_log import EventLog
from ops.invariants.subject import Process, Sent, Subject
from ops.simulator.history import History
from ops.simulator.truth import CustomerTruth
from ops.up import Member
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings
from support.pipeline import Pipeline
from support.polling import eventually

HELD = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I10")
REST_SECONDS = 120.0
OPEN_LETTERS = """
SELECT customer_id, event_id, reason, error FROM dead_letters WHERE resolved_at IS NULL
"""


def hold_invariants(
    pipeline: Pipeline,
    known: Iterable[History],
    *,
    accepted: Collection[str] | None = None,
    expect_dead_letters: bool = False,
    seconds: float = REST_SECONDS,
) -> None:
    """Wait until a deployment is at rest, and demand I1 to I7 and I10 of it.

    `known` are the simulated customers, whose outcome must be the known one, the gatekeeper's
    answers included if it runs. `accepted` are the ids that were answered 200; without it, all
    events of `known`. With `expect_dead_letters` there may be some, and a customer that has one
    is not held against its outcome; without, one is a failure, a stranger's too.
    """
    histories = list(known)
    events = {
        event.id: Sent(history.truth.customer_id, datetime.fromtimestamp(event.created, UTC))
        for history in histories
        for event in history.events
    }
    ids = events.keys() if accepted is None else accepted
    with subject_of(
        pipeline,
        accepted={id_: events.get(id_, Sent("no simulated customer")) for id_ in ids},
        truths=[history.truth for history in histories],
        letters_expected=expect_dead_letters,
        records=None,
        rest_seconds=seconds,
    ) as subject:
        results = check(subject, HELD)
    found = [str(finding) for result in results for finding in result.findings]
    found += [
        f"{r.invariant.id} was not checked: {r.looked_at}" for r in results if not r.is_checked
    ]
    if not expect_dead_letters:
        found += [f"dead letter: {row}" for row in pipeline.query(OPEN_LETTERS)]
    made_up = {row[0] for row in pipeline.query("SELECT event_id FROM webhook_events")}
    made_up -= events.keys() | set(ids)
    found += [f"{event_id} is recorded, and nobody sent it" for event_id in sorted(made_up)]
    # pytest rewrites no assertion outside of test files, so the message is ours.
    assert not found, "\n".join(found)
    if not expect_dead_letters:
        check_view(pipeline, [history.truth for history in histories])


def log_ends(pipeline: Pipeline) -> dict[int, tuple[int, int]]:
    """Return first and next offset of each partition of the topic."""
    topic = pipeline.variables["HOOKLINE_KAFKA_TOPIC"]
    bootstrap = pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "audit"})
    try:
        partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
        return {
            p: client.get_watermark_offsets(TopicPartition(topic, p), timeout=10)
            for p in partitions
        }
    finally:
        client.close()


def committed(pipeline: Pipeline) -> dict[int, int]:
    """Return what the group has committed to Kafka; a partition without any is absent."""
    access = {"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"]}
    group, topic = (pipeline.variables[f"HOOKLINE_KAFKA_{name}"] for name in ("GROUP", "TOPIC"))
    return committed_offsets(access, group, topic, log_ends(pipeline))


def positions(pipeline: Pipeline) -> dict[int, int]:
    """Return how far each partition is applied."""
    return dict(pipeline.query("SELECT partition, next_offset FROM consumer_positions"))


def behind(pipeline: Pipeline) -> int:
    """Return how many offsets are not applied yet."""
    stored = positions(pipeline)
    return sum(high - stored.get(p, low) for p, (low, high) in log_ends(pipeline).items())


def catch_up(pipeline: Pipeline, seconds: float) -> None:
    """Wait until everything in the log is applied."""
    eventually(lambda: behind(pipeline) == 0, seconds, "catching up")


def check_view(pipeline: Pipeline, truths: list[CustomerTruth]) -> None:
    """Demand that the view that SQL users read shows these customers, and no others."""
    eventually(
        lambda: pipeline.query("SELECT count(*) FROM plan_tiers") != [(0,)],
        what="writing the tiers of the view",
    )
    view = pipeline.query("SELECT customer_id, tier, entitled, status FROM customer_entitlements")
    found = {customer: tuple(rest) for customer, *rest in view}
    answers = {truth.customer_id: truth.answer(time.time()) for truth in truths}
    wanted = {c: (answer.tier, answer.entitled, answer.status) for c, answer in answers.items()}
    pairs = {c: (found.get(c), wanted.get(c)) for c in found.keys() | wanted.keys()}
    wrong = {c: pair for c, pair in pairs.items() if pair[0] != pair[1]}
    assert not wrong, wrong


@contextmanager
def subject_of(pipeline: Pipeline, **known: Any) -> Iterator[Subject]:
    """Provide a deployment as the checks want it, with what is known of it besides."""
    variables = pipeline.variables
    log = EventLog(
        {"bootstrap.servers": variables["HOOKLINE_KAFKA_BOOTSTRAP"]},
        variables.get("HOOKLINE_KAFKA_TOPIC", "stripe.events"),
    )
    gatekeeper = None
    keeper = pipeline.members.get("gatekeeper")
    if keeper is not None and keeper.process.is_alive():
        gatekeeper = (variables["HOOKLINE_GATEKEEPER_URL"], None)
    with Redis.from_url(variables["HOOKLINE_REDIS_URL"]) as redis:
        try:
            yield Subject(
                engine=engine_of(pipeline),
                plans=load_plans(Path(variables["HOOKLINE_PLANS_FILE"])),
                grace=timedelta(hours=float(variables.get("HOOKLINE_GRACE_HOURS", "24"))),
                group=variables.get("HOOKLINE_KAFKA_GROUP", "hookline"),
                log=log,
                redis=redis,
                gatekeeper=gatekeeper,
                processes=processes_of(pipeline),
                **known,
            )
        finally:
            log.close()


def processes_of(pipeline: Pipeline) -> dict[str, Process]:
    """Return the processes of a deployment by their names."""
    return {
        name: Process(f"http://127.0.0.1:{member.port}", _pid(member))
        for name, member in pipeline.members.items()
    }


def _pid(member: Member) -> int | None:
    return member.process.pid if member.process.is_alive() else None


def engine_of(pipeline: Pipeline) -> Engine:
    """Return an engine on a deployment's database."""
    url = SecretStr(pipeline.variables["HOOKLINE_DATABASE_URL"])
    return make_engine(DatabaseSettings(database_url=url), "test")
