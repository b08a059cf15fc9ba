"""`hookline up` killed as a crash kills it: what it ran ends with it, and the data stays."""

import os
from pathlib import Path

import pytest

from ops.embedded.processes import Process
from ops.up import own_command, read_env_file
from support.invariants import hold_invariants
from support.load import histories, shuffled
from support.pipeline import SECRET, Pipeline, recorded
from support.polling import eventually
from support.proving import Proof, examples
from support.up import free_ports_of_up

CUSTOMERS = examples(60, 8)
ROUNDS = examples(3, 1)


@pytest.mark.timeout(600)
def test_30_up_killed_and_started_again(tmp_path: Path, proof: Proof) -> None:
    """After kill -9 of `hookline up` the next one finds its servers' data, and all is there."""
    folder = tmp_path / "data"
    command = [*own_command(), "up", "--data-dir", str(folder), "--consumers", "2"]
    own = {**free_ports_of_up(), "HOOKLINE_WEBHOOK_SECRETS": SECRET}
    up = Process("up", tmp_path, environment={**os.environ, **own})
    known = []
    try:
        for number in proof.track(range(ROUNDS), ROUNDS):
            pipeline = begin(up, command, folder)
            new = histories(CUSTOMERS, f"up {number}")
            sent = recorded(pipeline) + sum(len(history.events) for history in new)
            assert set(pipeline.post_all(shuffled(new))) == {200}
            known += new
            eventually(lambda: recorded(pipeline) > sent // 2, 60, "the first half")  # noqa: B023
            up.kill()
            (folder / "env").unlink()
            proof.count(kills=1, events=sum(len(history.events) for history in new))
        hold_invariants(begin(up, command, folder), known)
    finally:
        up.stop()


def begin(up: Process, command: list[str], folder: Path) -> Pipeline:
    """Start `up`, wait until it is up, and return what it runs."""
    up.start(command)
    eventually(lambda: (folder / "env").exists() or not up.is_alive(), 120, "`up` being up")
    assert up.is_alive(), up.tail()
    eventually(lambda: "HOOKLINE_INGEST_URL" in read_env_file(folder / "env"), 10)
    return Pipeline(folder, read_env_file(folder / "env"))
