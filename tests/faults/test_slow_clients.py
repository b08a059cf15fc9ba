"""Clients that hold ingest up: slow in five ways, or with a body of a million pieces."""

import asyncio
from collections.abc import Iterator

import pytest

from support.pipeline import Pipeline, counted
from support.polling import eventually
from support.proving import Proof, examples
from support.raw_http import converse, request
from support.served import port_of, serving, stamp
from support.servers import Servers
from support.slow import MODES, crowd

CAP = 512 * 1024


@pytest.fixture(scope="module")
def ingest(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Provide one ingest for the whole file."""
    with serving(servers, tmp_path_factory.mktemp("slow")) as pipeline:
        yield pipeline


def test_slow_clients_are_closed_and_hold_nobody_up(ingest: Pipeline, proof: Proof) -> None:
    """Each is closed by its limit, and every good request meanwhile is answered 200."""
    sockets, seconds = examples((2000, 120.0), (100, 0.0))
    seen = asyncio.run(crowd(port_of(ingest), sockets, seconds))
    assert all(seen[mode] >= sockets // len(MODES) for mode in MODES)
    assert seen["good"] > 0
    eventually(lambda: open_connections(ingest) == 0, what="closing all connections")
    proof.count(closed=sum(seen[mode] for mode in MODES), good=seen["good"])


def open_connections(ingest: Pipeline) -> float:
    """Return how many connections ingest says are open."""
    return counted(ingest.metrics("ingest"), "hookline_ingest_open_connections")[""]


@pytest.mark.parametrize(
    ("size", "status"),
    [
        (examples(CAP, 4000), 200),
        pytest.param(
            1_000_000,
            413,
            marks=pytest.mark.long_run,
        ),
    ],
)
def test_a_body_of_one_byte_chunks(ingest: Pipeline, proof: Proof, size: int, status: int) -> None:
    """Cut into single bytes, a body verifies up to the limit and is refused past it."""
    content = b'{"id":"evt_bytes","x":"' + b"y" * (size - 25) + b'"}'
    head = request(
        b"", content_length="", transfer_encoding="chunked", stripe_signature=stamp(content)
    )
    pieces = [
        b"".join(b"1\r\n%c\r\n" % byte for byte in content[at : at + 10_000])
        for at in range(0, size, 10_000)
    ]
    found = converse(port_of(ingest), head, *pieces, b"0\r\n\r\n")
    assert found.statuses == (status,)
    proof.count(chunks=size)
