"""Signing secrets: rolled under load, and never in anything a process writes."""

import itertools
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx2 as httpx
import pytest

from support.pipeline import SECRET, Pipeline, counted
from support.polling import eventually
from support.raw_http import converse, request, talk
from support.served import port_of, serving, signed, stamp
from support.servers import Servers

SECRETS = [SECRET, "whsec_second_fa31", "whsec_third_77c2", "whsec_fourth_09be"]
MARK = "marked_body_5e1d"
CONTENT = b'{"id":"evt_secret","object":"event","filler":"%s"}' % MARK.encode()


@pytest.fixture
def ingest(servers: Servers, tmp_path: Path) -> Iterator[Pipeline]:
    """Provide an ingest that writes all it can."""
    with serving(servers, tmp_path, HOOKLINE_LOG_LEVEL="debug") as pipeline:
        yield pipeline


def status_with(ingest: Pipeline, secret: str) -> int:
    """Return the answer to an event signed with a secret."""
    return talk(port_of(ingest), signed(CONTENT, secret=secret, connection="close")).status


def put(ingest: Pipeline, *secrets: str) -> None:
    """Write the secrets file and have it read."""
    Path(ingest.variables["HOOKLINE_WEBHOOK_SECRETS_FILE"]).write_text(",".join(secrets))
    os.kill(ingest.members["ingest"].process.pid, signal.SIGHUP)


def matched(ingest: Pipeline, position: int) -> float:
    """Return how many signatures a position has verified."""
    found = counted(ingest.metrics("ingest"), "hookline_ingest_matched_secrets_total")
    return found.get(f'position="{position}"', 0)


class Load:
    """Four threads that send requests signed with the secret of the moment."""

    def __init__(self, ingest: Pipeline, secret: str) -> None:
        self.secret = secret
        self.answers: list[list[int]] = [[] for _ in range(4)]
        self._ingest = ingest
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(to,)) for to in self.answers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def switch(self, secret: str) -> None:
        """Sign with another secret; returns when no request signed with the last one is open."""
        self.secret = secret
        before = [len(answers) for answers in self.answers]
        eventually(
            lambda: all(
                len(answers) > was + 1 for answers, was in zip(self.answers, before, strict=True)
            )
        )

    def _send(self, answers: list[int]) -> None:
        while not self._done.is_set():
            answers.append(status_with(self._ingest, self.secret))


def roll(ingest: Pipeline, load: Load, old: str, new: str) -> None:
    """Add a secret, promote it, drop the old one, as README.md says."""
    second = matched(ingest, 2)
    put(ingest, old, new)
    eventually(lambda: status_with(ingest, new) == httpx.codes.OK)
    assert matched(ingest, 2) > second
    put(ingest, new, old)
    load.switch(new)
    second = matched(ingest, 2)
    assert status_with(ingest, old) == httpx.codes.OK
    eventually(lambda: matched(ingest, 2) > second)
    put(ingest, new)
    eventually(lambda: status_with(ingest, old) == httpx.codes.BAD_REQUEST)


def test_three_secrets_are_rolled_under_load(ingest: Pipeline) -> None:
    """Added, promoted, the old one dropped, three times: no request is refused meanwhile."""
    with Load(ingest, SECRETS[0]) as load:
        for old, new in itertools.pairwise(SECRETS):
            roll(ingest, load, old, new)
    answers = Counter(itertools.chain.from_iterable(load.answers))
    assert set(answers) == {200}


def refusals() -> list[bytes]:
    """Return requests of every kind that is refused or ignored, each with a mark in its body."""
    old = stamp(CONTENT).replace("t=", "t=1")
    other_mode = CONTENT.replace(b'"object"', b'"livemode":true,"object"')
    bodies = [
        CONTENT[:-1],
        b"[%s]" % CONTENT,
        CONTENT.replace(b'"id"', b'"no"'),
        b'{"id":"\xff%s"}' % MARK.encode(),
        other_mode,
        CONTENT.replace(b'"event"', b'"v2.core.event"'),
        CONTENT.replace(b'"object"', b'"account":"acct_1","object"'),
        CONTENT,
    ]
    return [
        *[signed(content, connection="close") for content in bodies],
        *[
            request(CONTENT, stripe_signature=value, connection="close")
            for value in ("", old, f"{old},{old}", "v1=" + "é", f"{MARK}={MARK}", stamp(b"x"))
        ],
        signed(CONTENT, content_encoding="gzip"),
        signed(CONTENT, path=f"/{MARK}"),
        signed(CONTENT, method="PUT"),
        signed(CONTENT, content_length="9999999"),
        signed(CONTENT, content_length=f"{MARK}"),
        signed(CONTENT, x_long=MARK * 2000),
        signed(CONTENT, transfer_encoding="chunked"),
        signed(CONTENT, content_length=str(len(CONTENT) + 9)),
        signed(CONTENT).replace(b"HTTP/1.1", MARK.encode()),
    ]


def test_nothing_secret_is_in_any_output(ingest: Pipeline) -> None:
    """Logs at level debug and metrics hold no secret, no signature and no body."""
    statuses = Counter(
        status for sent in refusals() for status in converse(port_of(ingest), sent).statuses
    )
    assert set(statuses) == {200, 400, 404, 405, 408, 413, 415, 431}
    log = ingest.members["ingest"].process.log
    put(ingest, *SECRETS, *[f"{SECRETS[1]}{number}" for number in range(9)])
    eventually(lambda: "secrets_not_reloaded" in log.read_text())
    put(ingest, *SECRETS)
    eventually(lambda: "secrets_reloaded" in log.read_text())
    output = log.read_text() + ingest.metrics("ingest")
    output += str(ingest.readiness("ingest"))
    ingest.stop()
    output += log.read_text()
    assert '"level": "info"' in output
    assert not [word for word in (*SECRETS, MARK, "whsec_", "v1=") if word in output]
    assert not re.search(r"[0-9a-f]{64}", output, re.IGNORECASE)
