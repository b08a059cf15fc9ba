"""i: ingest against the same server without Kafka, and against what tutorials write."""

import json
import time
from functools import partial

from ops.bench.bed import Deployment
from ops.bench.load import Outcome
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.peer import own_peer
from ops.bench.serving import Check, Generator, Start, serve_under_load
from ops.bench.traffic import SECRET, Traffic, uniform
from ops.embedded.ports import HOST
from ops.invariants.event_log import EventLog
from schemas.signature import sign

EVENTS = 2_000
"""So many different ones are sent over and over; each request is a delivery of its own."""


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    traffic = uniform(min(EVENTS, scale.events), "i")
    generator = Generator(scale.load_seconds)

    def arm(name: str, start: Start, check: Check) -> Arm:
        return Arm(
            name,
            lambda bed: serve_under_load(
                bed,
                bed.empty_topic(traffic),
                generator,
                start=start,
                requests=partial(posts, traffic),
                check=check,
            ),
        )

    return Scenario(
        "i",
        "ingest: webhook requests a second over 64 connections",
        (
            arm("hookline", start_ingest, check_log),
            arm("without Kafka", start_without_kafka, check_answers),
            arm("tutorial", start_tutorial, check_log),
            arm("hookline again", start_ingest, check_log),
        ),
        (
            Ratio(
                "i",
                "ingest / the same server without Kafka",
                Figure("hookline"),
                (Figure("without Kafka"),),
                0.55,
                0.8,
            ),
            Ratio(
                "i-tutorial",
                "ingest / construct_event and a flush per request",
                Figure("hookline"),
                (Figure("tutorial"),),
                12,
                20,
            ),
        ),
        control=(Figure("hookline"), Figure("hookline again")),
        notes=("every answer 200 is held against the record that it names, byte by byte",),
    )


def posts(traffic: Traffic) -> list[bytes]:
    """Return requests signed now: they are accepted for five minutes."""
    now = int(time.time())
    return [_post(record.body, now) for record in traffic.records()]


def _post(body: bytes, now: int) -> bytes:
    return (
        b"POST /webhooks/stripe HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n"
        b"stripe-signature: %b\r\ncontent-length: %d\r\n\r\n%b"
        % (HOST.encode(), sign(body, SECRET, now).encode(), len(body), body)
    )


def start_ingest(deployment: Deployment) -> int:
    """Start hookline's ingest."""
    deployment.member("ingest", "ingest")
    return int(deployment.variables["HOOKLINE_INGEST_PORT"])


def start_without_kafka(deployment: Deployment) -> int:
    """Start the same server with a publisher that goes nowhere."""
    return _start_peer(deployment, "ingest_without_kafka")


def start_tutorial(deployment: Deployment) -> int:
    """Start what tutorials write."""
    return _start_peer(deployment, "tutorial_ingest")


def _start_peer(deployment: Deployment, module: str) -> int:
    port = deployment.variables["HOOKLINE_INGEST_PORT"]
    deployment.process(module, [*own_peer(module), port])
    return int(port)


def check_answers(_deployment: Deployment, outcome: Outcome) -> tuple[str, list[str]]:
    """Hold that each answer accepts an event; nothing is there to look for it in."""
    refused = [text for text in outcome.answers if json.loads(text)["status"] != "accepted"]
    return "all answers accept their event", [f"not accepted: {text}" for text in refused[:3]]


def check_log(deployment: Deployment, outcome: Outcome) -> tuple[str, list[str]]:
    """Hold each answer against the record it names: the event is there, whole, and once."""
    bodies = {json.loads(r.body)["id"]: r.body for r in deployment.topic.traffic.records()}
    log = EventLog({"bootstrap.servers": deployment.bed.bootstrap}, deployment.topic.name)
    stands = {
        (record.partition, record.offset): record.body
        for partition, span in log.bounds().items()
        for record in log.read(partition, span.low, span.end)
    }
    log.close()
    answers = [json.loads(text) for text in outcome.answers]
    places = [(answer["partition"], answer["offset"]) for answer in answers]
    problems = [
        f"{answer['event']} is not at partition {place[0]}, offset {place[1]}"
        for answer, place in zip(answers, places, strict=True)
        if stands.get(place) != bodies[answer["event"]]
    ]
    if len(set(places)) != len(answers):
        problems.append("two answers name the same record")
    return f"{len(answers):,} answers 200 are {len(set(places)):,} whole records", problems[:5]
