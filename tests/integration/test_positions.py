"""`hookline positions` on real brokers: each gap is shown, and accepted by compare-and-set."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner, Result

from consumer.errors import Retry
from consumer.storage.engine import make_engine
from consumer.storage.positions import Position
from ops.cli import app
from ops.embedded.ports import free_ports
from ops.positions.accepting import accept
from ops.positions.reading import read_standings
from ops.usage import UsageError
from schemas.settings import PositionsSettings, load

Run = Callable[..., Result]
RECORDS = 20


@pytest.fixture
def run(
    database_url: str, kafka_bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Provide the commands, for a group and a topic of the test's own."""
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("HOOKLINE_KAFKA_BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("HOOKLINE_KAFKA_TOPIC", topic)
    monkeypatch.setenv("HOOKLINE_KAFKA_GROUP", topic)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["positions", *arguments])

    return invoke


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Provide a connection that commits each statement."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def topic_id(run: Run, kafka_bootstrap: str, topic: str) -> str:
    """Fill partitions 0 and 1, delete the first five records of partition 0; return the id."""
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for number in range(RECORDS):
        for partition in (0, 1):
            producer.produce(topic, str(number).encode(), partition=partition)
    producer.flush()
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 5)]).values()
    deleted.result()
    return str(json.loads(run("show", "--json").stdout)["topic_id"])


def store(database: psycopg.Connection[Any], topic: str, *positions: Position) -> None:
    """Store positions of the test's group."""
    for one in positions:
        database.execute(
            "INSERT INTO consumer_positions VALUES (%s, %s, %s, %s, %s, %s)",
            [topic, topic, one.topic_id, one.partition, one.next_offset, one.epoch],
        )


def stored(database: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return partition, topic id, offset and epoch of all positions."""
    return database.execute(
        "SELECT partition, topic_id, next_offset, epoch FROM consumer_positions ORDER BY 1"
    ).fetchall()


def shown(run: Run, code: int) -> dict[int, dict[str, Any]]:
    """Return what show says of each partition."""
    result = run("show", "--json")
    assert result.exit_code == code, result.output
    return {one["partition"]: one for one in json.loads(result.stdout)["partitions"]}


def test_a_group_that_never_ran_has_no_positions_and_no_gap(run: Run) -> None:
    """Nothing is wrong with what has not begun."""
    found = shown(run, 0)
    assert {one["sentence"] for one in found.values()} == {"no position yet"}
    assert len(found) == 12
    assert {one["committed"] for one in found.values()} == {None}


def test_show_tells_positions_logs_and_commits(
    run: Run,
    database: psycopg.Connection[Any],
    topic: str,
    topic_id: str,
    kafka_bootstrap: str,
) -> None:
    """Three sources side by side: PostgreSQL, the log, and the offset that Kafka holds."""
    store(database, topic, Position(0, topic_id, 3), Position(1, topic_id, 12))
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": topic})
    consumer.commit(offsets=[TopicPartition(topic, 1, 11)], asynchronous=False)
    consumer.close()
    found = shown(run, 3)
    assert found[0]["state"] == "before_log"
    assert found[0]["sentence"] == "out of range: the log begins at 5, 2 records missing"
    one = found[1]
    assert (one["next_offset"], one["epoch"], one["log_begin"], one["log_end"]) == (12, 0, 0, 20)
    assert (one["committed"], one["lag"], one["state"]) == (11, 8, "ok")
    plain = run("show").stdout
    assert "1\t12\t0\t0..20\t11\t8\tok" in plain
    assert "1 partition stopped by a gap: 0" in plain


GAPS: dict[str, tuple[Callable[[str], Position], tuple[int, int]]] = {
    "before_log": (lambda id_: Position(0, id_, 3, 4), (5, 5)),
    "past_end": (lambda id_: Position(0, id_, 100, 4), (5, 5)),
    "other_topic": (lambda _: Position(0, "another", 7, 4), (5, 5)),
}


@pytest.mark.parametrize("name", GAPS)
def test_each_gap_is_accepted_once_it_is_meant(
    run: Run,
    database: psycopg.Connection[Any],
    topic: str,
    topic_id: str,
    name: str,
) -> None:
    """Without --yes nothing changes; with it offset, topic id and epoch, and the gap is gone."""
    make, (offset, epoch) = GAPS[name]
    store(database, topic, make(topic_id), Position(1, topic_id, 12, 1))
    before = stored(database)
    assert shown(run, 3)[0]["state"] == name
    dry = run("accept-gap", "--partition", "0")
    assert dry.exit_code == 0
    assert "Nothing was written; --yes does it." in dry.stdout
    assert stored(database) == before
    assert run("accept-gap", "--partition", "0", "--yes").exit_code == 0
    assert stored(database) == [(0, topic_id, offset, epoch), before[1]]
    assert shown(run, 0)[0]["state"] == "ok"


def test_all_means_those_with_a_gap(
    run: Run, database: psycopg.Connection[Any], topic: str, topic_id: str
) -> None:
    """A sound partition is left alone; then there is nothing to accept."""
    store(database, topic, *(Position(n, topic_id, at) for n, at in ((0, 2), (1, 90), (2, 0))))
    assert run("accept-gap", "--all", "--to", "end", "--yes").exit_code == 0
    assert stored(database) == [(0, topic_id, 20, 1), (1, topic_id, 20, 1), (2, topic_id, 0, 0)]
    again = run("accept-gap", "--all", "--yes")
    assert (again.exit_code, again.stdout) == (0, "No partition is stopped by a gap.\n")


@pytest.mark.parametrize(
    "given",
    [
        (["--partition", "1"], "partition 1 is not stopped by a gap: ok"),
        (["--partition", "2"], "partition 2 is not stopped by a gap: no position yet"),
        (["--partition", "99"], "the topic has no partition 99"),
        (["--partition", "0", "--to", "4"], "--to 4: the log of partition 0 holds 5 to 20"),
        (["--partition", "0", "--to", "soon"], "give beginning, end or an offset"),
        (["--partition", "0", "--all"], "say which"),
        ([], "say which"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    run: Run,
    database: psycopg.Connection[Any],
    topic: str,
    topic_id: str,
    given: tuple[list[str], str],
) -> None:
    """A position is moved over a gap only, and into the log only."""
    store(database, topic, Position(0, topic_id, 3), Position(1, topic_id, 12))
    before = stored(database)
    arguments, sentence = given
    result = run("accept-gap", *arguments, "--yes")
    assert isinstance(result.exception, UsageError)
    assert sentence in str(result.exception)
    assert stored(database) == before


@pytest.mark.parametrize("column", ["next_offset = 4", "epoch = 9", "topic_id = 'x'"])
def test_what_changed_meanwhile_is_not_overwritten(
    run: Run,
    database: psycopg.Connection[Any],
    topic: str,
    topic_id: str,
    column: str,
) -> None:
    """Two operators at once, or a consumer after all: compare and set, all partitions or none."""
    _ = run
    settings = load(PositionsSettings)
    one, other = Position(0, topic_id, 3), Position(1, topic_id, 90)
    store(database, topic, one, other)
    engine = make_engine(settings, "test")
    assert len(read_standings(engine, settings)) == 12
    database.execute(f"UPDATE consumer_positions SET {column} WHERE partition = 1")  # noqa: S608
    before = stored(database)
    moves = [(one, Position(0, topic_id, 5, 1)), (other, Position(1, topic_id, 0, 1))]
    with pytest.raises(UsageError, match="has changed meanwhile"):
        accept(engine, settings, moves)
    assert stored(database) == before


def test_kafka_away_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named with its address; it is not waited for."""
    (port,) = free_ports(1)
    monkeypatch.setenv("HOOKLINE_KAFKA_BOOTSTRAP", f"127.0.0.1:{port}")
    result = run("show")
    assert isinstance(result.exception, Retry)
    assert f"Kafka at 127.0.0.1:{port}: " in str(result.exception)
