"""`hookline doctor --check` on a running deployment: under traffic, at rest, broken, cut off."""

import json
import os
import subprocess
import threading

import pytest

from ops.up import own_command
from support.load import histories, shuffled
from support.pipeline import SECRET, Pipeline, recorded
from support.polling import eventually


def doctor(pipeline: Pipeline, *arguments: str, **other: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does."""
    environment = {**os.environ, **pipeline.variables, "COLUMNS": "200"} | other
    for name in ("HOOKLINE_WEBHOOK_SECRETS", "HOOKLINE_LIVEMODE"):
        # What it can do without, nobody has to hand out.
        del environment[name]
    return subprocess.run(  # noqa: S603 - our own command line
        [*own_command(), "doctor", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_under_traffic_nothing_is_found(pipeline: Pipeline) -> None:
    """A consumer at work looks like no finding, however often it is looked at."""
    pipeline.start("ingest", "consumer-1", "consumer-2")
    events = shuffled(histories(60, "t"), copies=2)
    over = threading.Event()

    def send() -> None:
        for first in range(0, len(events), 50):
            if over.is_set():
                return
            pipeline.post_all(events[first : first + 50], threads=4)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        eventually(lambda: recorded(pipeline) > 20, what="the first batches")
        for _ in range(2):
            found = doctor(pipeline, "--check", "--json", "--wait", "0")
            assert found.returncode == 0, found.stdout + found.stderr
            states = {one["id"]: one["state"] for one in json.loads(found.stdout)["invariants"]}
            assert {states[id_] for id_ in ("I1", "I2", "I3", "I5", "I7", "I10")} == {"holds"}
            # One look: whether it met a moment of rest is chance.
            assert states["I6"] in {"holds", "not checked"}
            assert {states[id_] for id_ in ("I4", "I8", "I9", "I11")} == {"not checked"}
    finally:
        over.set()
        sending.join()


def test_a_table_at_rest_and_a_finding_by_name(pipeline: Pipeline) -> None:
    """At rest all holds, exit 0; a lost row, a secret in a log: exit 3, and what and where."""
    pipeline.start("ingest", "consumer-1")
    known = histories(4, "d")
    assert set(pipeline.post_all(shuffled(known))) == {200}
    port = pipeline.members["consumer-1"].port
    log = pipeline.members["consumer-1"].process.log
    admin = f"http://127.0.0.1:{port}"
    eventually(lambda: recorded(pipeline) == sum(len(one.events) for one in known))
    found = doctor(pipeline, "--check", "--admin", admin, "--output", str(log))
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.endswith("I1 to I3, I5 to I7, I9 to I11 hold; I4, I8 not checked\n"), (
        found.stdout
    )

    lost = known[0].events[0].id
    pipeline.execute("DELETE FROM webhook_events WHERE event_id = %s", lost)
    leak = pipeline.folder / "leak.log"
    leak.write_text(f"fine\nthe secret is {SECRET}_and_more\n")
    found = doctor(pipeline, "--check", "--output", str(leak), "--json")
    assert found.returncode == 3, found.stdout + found.stderr
    assert SECRET not in found.stdout
    broken = {
        one["id"]: one["findings"]
        for one in json.loads(found.stdout)["invariants"]
        if one["state"] == "broken"
    }
    assert set(broken) == {"I1", "I11"}
    (finding,) = broken["I1"]
    assert finding["what"] == f"{lost} is neither recorded nor a dead letter"
    assert broken["I11"] == [
        {"where": "leak.log, line 2", "what": "holds a signing secret of Stripe's"}
    ]
    found = doctor(pipeline, "--check", "--records", "0")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("arguments", "other", "code", "sentence"),
    [
        (("--check", "--output", "/no/such"), {}, 2, "--output /no/such: there is no such file"),
        (("--check",), {"HOOKLINE_REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "Redis does not answer"),
        (("--check",), {"HOOKLINE_KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 1, "Kafka at 127.0.0.1:1: "),
        (
            ("--check",),
            {"HOOKLINE_DATABASE_URL": "postgresql://a:secret@127.0.0.1:1/b"},
            1,
            "hookline: PostgreSQL: ",
        ),
        (("--check",), {"HOOKLINE_KAFKA_TOPIC": "no.such.topic"}, 1, "Kafka at "),
    ],
)
def test_what_is_away_is_told_in_a_sentence(
    pipeline: Pipeline, arguments: tuple[str, ...], other: dict[str, str], code: int, sentence: str
) -> None:
    """A server that does not answer: exit 1 and one line without a secret; a mistake: exit 2."""
    found = doctor(pipeline, *arguments, **other)
    assert found.returncode == code, found.stdout + found.stderr
    assert sentence in found.stderr
    assert "secret" not in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
