"""j: the gatekeeper's hit and miss against a plain GET and a plain SELECT by the same server."""

import json
from collections.abc import Callable, Sequence

import httpx2 as httpx
from redis import Redis

from ops.bench.bed import Bed, Deployment
from ops.bench.commits import percentiles
from ops.bench.load import Outcome
from ops.bench.model import Arm, Figure, Ratio, Sample, Scale, Scenario
from ops.bench.peer import own_peer
from ops.bench.peers.plain_key import plain_key
from ops.bench.serving import (
    Check,
    Generator,
    Start,
    run_to_end,
    serve_under_load,
    wait_until_listening,
)
from ops.bench.stored import CUSTOMER, EVENTS_A_CUSTOMER, grown
from ops.bench.traffic import uniform
from ops.embedded.ports import HOST

HOT = 200
"""Customers that are asked for over and over."""

COLD = 40_000
"""Customers that are asked for once each: more than are answered in the time of a run."""

SERVED_BY = 0.95
"""So many answers must come from where the arm says."""

OURS = "/v1/customers/{}/entitlement"
DOCUMENT = json.dumps(
    {
        "customer": f"{CUSTOMER}1",
        "tier": "pro",
        "entitled": True,
        "status": "active",
        "grace_until": None,
        "valid_until": None,
        "version": 1,
        "source": "cache",
    }
)


def scenario(scale: Scale) -> Scenario:
    """Return the scenario."""
    generator = Generator(scale.load_seconds)

    def arm(name: str, start: Start, path: str, customers: int, check: Check) -> Arm:
        return Arm(name, _run(generator, start, gets(path, customers), check))

    return Scenario(
        "j",
        "the gatekeeper's answers a second over 64 connections",
        (
            arm("hit", start_warm, OURS, HOT, comes_from("cache")),
            arm("plain GET", start_plain, "/get/{}", HOT, is_whole),
            arm("miss", start_gatekeeper, OURS, COLD, comes_from("database")),
            arm("plain SELECT", start_plain, "/select/{}", COLD, is_whole),
            arm("hit again", start_warm, OURS, HOT, comes_from("cache")),
            Arm("class", lambda bed: read_in_process(bed, "class", scale.load_seconds)),
            Arm("GET by its link", lambda bed: read_in_process(bed, "plain", scale.load_seconds)),
        ),
        (
            Ratio(
                "j-hit", "hit / plain GET of Redis", Figure("hit"), (Figure("plain GET"),), 0.7, 0.9
            ),
            Ratio(
                "j-miss",
                "miss / plain indexed SELECT",
                Figure("miss"),
                (Figure("plain SELECT"),),
                0.5,
                0.8,
            ),
            Ratio(
                "j-class",
                "hit through the class / plain GET over the same link",
                Figure("class"),
                (Figure("GET by its link"),),
                None,
                None,
            ),
        ),
        control=(Figure("hit"), Figure("hit again")),
        notes=(
            "an answer from elsewhere than its arm says voids the arm's figure",
            "through the class: 64 tasks of one process; over HTTP: 64 connections",
        ),
    )


def gets(path: str, customers: int) -> list[bytes]:
    """Return a request for each of so many customers."""
    numbers = range(1, customers + 1)
    paths = (path.format(f"{CUSTOMER}{n}") for n in numbers)
    return [f"GET {one} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode() for one in paths]


def start_gatekeeper(deployment: Deployment) -> int:
    """Start hookline's gatekeeper."""
    deployment.member("gatekeeper", "gatekeeper")
    return int(deployment.variables["HOOKLINE_GATEKEEPER_PORT"])


def start_warm(deployment: Deployment) -> int:
    """Start it, and ask for each of the hot customers once."""
    port = start_gatekeeper(deployment)
    wait_until_listening(port)
    with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
        for number in range(1, HOT + 1):
            client.get(OURS.format(f"{CUSTOMER}{number}")).raise_for_status()
    return port


def start_plain(deployment: Deployment) -> int:
    """Start the plain server, with the documents of the hot customers in Redis."""
    store_documents(deployment.bed)
    port = deployment.variables["HOOKLINE_GATEKEEPER_PORT"]
    deployment.process("plain", [*own_peer("plain_reads"), port])
    return int(port)


def store_documents(bed: Bed) -> None:
    """Store the documents of the hot customers, without an end."""
    with Redis.from_url(bed.redis_url) as redis:
        redis.mset({plain_key(f"{CUSTOMER}{n}"): DOCUMENT for n in range(1, HOT + 1)})


def read_in_process(bed: Bed, kind: str, seconds: float) -> Sample:
    """Let a process ask the class, or Redis alone, for the hot customers; blocks."""
    template = bed.keep("gatekeeper", lambda: grown(bed, COLD * EVENTS_A_CUSTOMER))
    with bed.deployment(bed.topic(uniform(1, "j")), template=template) as deployment:
        store_documents(bed)
        asked, outcome = deployment.folder / "customers", deployment.folder / "outcome"
        asked.write_text(json.dumps([f"{CUSTOMER}{n}" for n in range(1, HOT + 1)]))
        command = [*own_peer("in_process"), kind, str(asked), str(seconds), str(outcome)]
        run_to_end("the reader", command, **deployment.variables)
        found = json.loads(outcome.read_text())
    answers = len(found["latencies"])
    problems = []
    if found["cached"] < SERVED_BY * answers:
        problems.append(f"only {found['cached']:,} of {answers:,} answers came from Redis")
    figures = {"rate": answers / seconds} | percentiles(found["latencies"])
    return Sample(figures, f"{answers:,} answers, {found['cached']:,} from Redis", problems)


def comes_from(source: str) -> Check:
    """Return a check that holds each answer against the row, and counts where it came from."""

    def check(_deployment: Deployment, outcome: Outcome) -> tuple[str, list[str]]:
        answers = [json.loads(text) for text in outcome.answers]
        wrong = [a for a in answers if (a["tier"], a["entitled"]) != ("pro", True)]
        problems = [f"a wrong answer: {answer}" for answer in wrong[:3]]
        share = sum(answer["source"] == source for answer in answers) / max(len(answers), 1)
        if share < SERVED_BY:
            problems.append(f"only {share:.0%} of the answers came from the {source}")
        return f"{len(answers):,} answers are the rows', {share:.1%} from the {source}", problems

    return check


def is_whole(_deployment: Deployment, outcome: Outcome) -> tuple[str, list[str]]:
    """Hold that each answer is a document."""
    empty = [text for text in outcome.answers if not text.startswith("{")]
    return "all answers are documents", [f"not a document: {text!r}" for text in empty[:3]]


def _run(
    generator: Generator, start: Start, asked: Sequence[bytes], check: Check
) -> Callable[[Bed], Sample]:
    traffic = uniform(1, "j")

    def run(bed: Bed) -> Sample:
        template = bed.keep("gatekeeper", lambda: grown(bed, COLD * EVENTS_A_CUSTOMER))
        return serve_under_load(
            bed,
            bed.topic(traffic),
            generator,
            start=start,
            requests=lambda: asked,
            check=check,
            template=template,
        )

    return run
