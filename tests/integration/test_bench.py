"""The benchmark's harness: what it writes, and what it does not let count."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from ops.bench import run as command
from ops.bench.bed import Bed
from ops.bench.drain import drain
from ops.bench.load import Outcome
from ops.bench.model import Arm, Figure, Ratio, Scale, Scenario
from ops.bench.run import EXIT_BELOW, Options
from ops.bench.serving import Generator
from ops.bench.traffic import uniform
from ops.usage import UsageError

TRAFFIC = uniform(1_100, "smoke")
"""Three batches: a rate needs more than one commit."""
# A status that the events do not say, so that rows and known outcome differ.
SPOIL = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.status := 'unpaid'; RETURN NEW; END $$;
CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON subscriptions FOR EACH ROW EXECUTE FUNCTION spoil()
"""


@contextmanager
def spoilt(bed: Bed) -> Iterator[str]:
    """Provide a database that stores something else than it is told."""
    with bed.database("bench_spoilt") as url:
        with psycopg.connect(url) as connection:
            connection.execute(SPOIL)
        yield "bench_spoilt"


def tiny(_scale: Scale) -> Scenario:
    """Return a scenario of a clean arm and one whose rows are wrong."""
    return Scenario(
        "t",
        "tiny",
        (
            Arm("clean", partial(drain, traffic=TRAFFIC)),
            Arm(
                "spoilt",
                lambda bed: drain(bed, TRAFFIC, template=bed.keep("spoilt", lambda: spoilt(bed))),
            ),
        ),
        (
            Ratio("t", "clean / clean", Figure("clean"), (Figure("clean"),), 0.5, 1),
            Ratio("t-spoilt", "clean / spoilt", Figure("clean"), (Figure("spoilt"),), 0.0, 1),
        ),
    )


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Let the tiny scenario be the only one."""
    monkeypatch.setattr(command, "SCENARIOS", {"t": tiny})
    return Options(
        quick=True, scenarios=(), json_file=tmp_path / "bench.json", data_dir=tmp_path / "data"
    )


def test_a_rate_without_a_clean_check_does_not_count(options: Options) -> None:
    """The document holds each ratio with its bar; one with wrong rows on either side has none."""
    assert command.run(options) == EXIT_BELOW
    assert options.json_file is not None
    document = json.loads(options.json_file.read_text())
    good, void = document["scenarios"]
    keys = {"id", "ratio", "bar", "aim", "spread", "lower_is_better"}
    assert keys <= good.keys()
    assert good["id"] == "t"
    assert (good["ratio"], good["spread"], good["meets_bar"]) == (1.0, 0.0, True)
    assert (void["ratio"], void["spread"], void["meets_bar"]) == (None, None, False)
    (found,) = document["samples"]["t"]["rounds"]
    assert found["clean"]["counts"] is True
    assert found["clean"]["figures"]["rate"] > 0
    assert found["spoilt"]["counts"] is False
    assert any("status is unpaid" in problem for problem in found["spoilt"]["problems"])
    assert document["machine"]["postgresql"]["fsync"] == "on"
    assert not (options.data_dir / "bench").exists()


def test_a_letter_that_is_none_is_named(options: Options) -> None:
    """Who asks for a scenario that there is not is told which there are."""
    with pytest.raises(UsageError, match="z: there are t"):
        command.run(Options(True, ("z",), options.json_file, options.data_dir))  # noqa: FBT003


@pytest.mark.parametrize(("proven", "counts"), [(299, False), (300, True)])
def test_a_generator_must_be_three_times_as_fast(*, proven: float, counts: bool) -> None:
    """What a generator measures counts only if it was proven at three times that rate."""
    outcome = Outcome(100.0, [], {}, [])
    assert (Generator(1.0, proven).problems(outcome) == []) is counts


def test_the_generator_takes_each_answer_once(tmp_path: Path) -> None:
    """What it says it sent was answered, each request in full, by a server that only counts."""
    generator = Generator(0.2)
    get, post = b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"
    generator.prove(Bed(tmp_path), [get, post])
    assert generator.proven > 0
