"""Dead letters on real storage: replayed they leave what would stand had nothing ever failed."""

import base64
import json
import random
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import text
from typer.testing import CliRunner, Result

import consumer.decode
from consumer.billing.handlers import read_event
from consumer.errors import Cause, Halt, Retry
from consumer.replay import PatientHints, Replayer
from consumer.storage.stored_letters import load_letters
from ops.cli import app
from ops.dead_letters.replaying import build_replayer
from ops.invariants.checker import find
from ops.invariants.subject import Subject
from ops.usage import UsageError
from schemas.plans import load_plans
from schemas.redis_keys import lock_key
from schemas.settings import ReplaySettings, load
from schemas.stripe_event import BadEvent, StripeEvent
from support.bench import START, TOPIC, Bench, records
from support.billing import GRACE
from support.load import histories, shuffled
from support.pipeline import SECRET
from support.stripe import DAY, Json, event, invoice, subscription

Run = Callable[..., Result]


@pytest.fixture
def run(bench: Bench, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Provide the commands, with the settings of the bench."""
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", bench.url)
    monkeypatch.setenv("HOOKLINE_REDIS_URL", redis_url)
    monkeypatch.setenv("HOOKLINE_PLANS_FILE", str(tmp_path / "plans.toml"))
    monkeypatch.setenv("HOOKLINE_WEBHOOK_SECRETS", SECRET)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["dead-letters", *arguments])

    return invoke


def start_of(number: int, **fields: Any) -> Json:
    """Return the beginning of one customer's subscription."""
    own = {"id": f"sub_{number}", "customer": f"cus_{number}"} | fields
    return event("customer.subscription.created", subscription(**own), id=f"evt_{number}")


def raising_for(is_bad: Callable[[StripeEvent], bool]) -> Callable[[StripeEvent], Any]:
    """Return a reader of events with a fault."""

    def read(found: StripeEvent) -> Any:
        if is_bad(found):
            raise ZeroDivisionError("a fault of ours")
        return read_event(found)

    return read


@pytest.fixture
def faulty() -> Callable[[Callable[[StripeEvent], bool]], Any]:
    """Provide a way to run a version with a fault for a while."""

    def break_for(is_bad: Callable[[StripeEvent], bool]) -> pytest.MonkeyPatch:
        patch = pytest.MonkeyPatch()
        patch.setattr(consumer.decode, "read_event", raising_for(is_bad))
        return patch

    return break_for


def fail(bench: Bench, faulty: Callable[..., Any], documents: Sequence[Json]) -> None:
    """Apply events with a version that cannot."""
    patch = faulty(lambda _: True)
    try:
        bench.apply(list(documents))
    finally:
        patch.undo()


def open_letters(bench: Bench) -> list[tuple[Any, ...]]:
    """Return reason and attempts of what is open."""
    return bench.query(
        "SELECT reason, attempts FROM dead_letters WHERE resolved_at IS NULL ORDER BY 1, 2"
    )


def rows(bench: Bench) -> object:
    """Return all state but for versions, times and trails."""
    return bench.query(
        "SELECT subscription_id, customer_id, status, tier, prices, cancel_at_period_end, "
        "cancel_at, current_period_end, latest_invoice, grace_until, ambiguous, facts "
        "FROM subscriptions ORDER BY 1"
    ), bench.query("SELECT customer_id, reference, reference_event_id FROM customers ORDER BY 1")


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_leaves_what_would_stand_without_the_failure(
    bench: Bench, run: Run, faulty: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    """A fifth of the events fail by our code, some by their data; after a replay none shows."""
    known = histories(25, f"dead-{seed}")
    documents = shuffled(known, copies=2, seed=seed)
    chance = random.Random(seed)  # noqa: S311 - the same failures each time
    ids = sorted({document["id"] for document in documents})
    bad = set(chance.sample(ids, len(ids) // 5))
    refused = chance.sample(sorted(set(ids) - bad), 15)
    with bench.engine.begin() as connection:
        names = ", ".join(f"'{name}'" for name in refused)
        connection.execute(
            text(
                "ALTER TABLE billing_audit ADD CONSTRAINT refuses "
                f"CHECK (event_id NOT IN ({names}))"
            )
        )
    patch = faulty(lambda found: found.id in bad)
    patch.setattr("consumer.halt.SHARE", 1.0)
    position = None
    for first in range(0, len(documents), 60):
        part = documents[first : first + 60]
        position = bench.apply(part, position) if position else bench.apply(part)
    patch.undo()
    reasons = {reason for reason, _ in open_letters(bench)}
    assert reasons == {"handler", "data"}
    truths = [history.truth for history in known]
    plans = load_plans(tmp_path / "plans.toml")
    subject = Subject(engine=bench.engine, plans=plans, grace=GRACE, group="group", truths=truths)
    assert find(subject, ("I4",))

    with bench.engine.begin() as connection:
        connection.execute(text("ALTER TABLE billing_audit DROP CONSTRAINT refuses"))
    result = run("replay", "--all", "--yes")
    assert result.exit_code == 0, result.output
    assert open_letters(bench) == []
    assert find(subject, ("I2", "I3", "I4")) == []
    # And again: nothing is left, nothing changes.
    before = rows(bench)
    assert "Nothing is left to replay" in run("replay", "--all", "--yes").output
    assert rows(bench) == before


def test_without_yes_nothing_is_written(bench: Bench, run: Run, faulty: Callable[..., Any]) -> None:
    """A dry run says how many, whose and why, and leaves all as it is."""
    fail(bench, faulty, [start_of(1), start_of(2)])
    result = run("replay", "--reason", "handler")
    assert result.exit_code == 0
    assert "2 dead letters of 2 customers: 2 handler." in result.output
    assert "Nothing was replayed" in result.output
    assert open_letters(bench) == [("handler", 1), ("handler", 1)]
    assert rows(bench) == ([], [("cus_1", None, None), ("cus_2", None, None)])


def test_what_fails_again_stays_open_with_the_new_error(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """Exit code 3, one attempt more, the error of now, and the others are resolved."""
    fail(bench, faulty, [start_of(1), start_of(2)])
    patch = faulty(lambda found: found.id == "evt_2")
    patch.setattr(consumer.decode, "describe", lambda _: "another fault")
    result = run("replay", "--all", "--yes")
    patch.undo()
    assert result.exit_code == 3
    assert "1 dead letter resolved; failed again and still open: 1 handler" in result.output
    assert "another fault" in result.output
    found = bench.query(
        "SELECT event_id, attempts, error, resolved_at IS NULL, replayed_at IS NULL "
        "FROM dead_letters ORDER BY 1"
    )
    fault = "ZeroDivisionError: a fault of ours (in read, line"
    assert [(*row[:2], *row[3:]) for row in found] == [
        ("evt_1", 1, False, True),
        ("evt_2", 2, True, False),
    ]
    assert found[0][2].startswith(fault)
    assert found[1][2] == "another fault"
    assert bench.query("SELECT error FROM webhook_events WHERE event_id = 'evt_2'") == [
        ("another fault",)
    ]


def test_no_position_moves_and_no_mark_is_written(
    bench: Bench, run: Run, faulty: Callable[..., Any], redis_url: str
) -> None:
    """A replay knows no position that could back a mark, so it writes none."""
    fail(bench, faulty, [start_of(1)])
    before = bench.query("SELECT * FROM consumer_positions")
    assert run("replay", "--all", "--yes").exit_code == 0
    assert bench.query("SELECT * FROM consumer_positions") == before
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("webhook:*") == []
    assert bench.query("SELECT customers FROM cache_invalidations") == [(["cus_1"],)]


def test_a_replay_is_resolved_with_its_effects_or_not_at_all(
    bench: Bench, faulty: Callable[..., Any]
) -> None:
    """Dying before COMMIT leaves the letter open and the event unapplied."""
    fail(bench, faulty, [start_of(1)])

    def die(place: str) -> None:
        if place == "before_commit":
            raise KeyboardInterrupt

    bench.batch._reach = die  # noqa: SLF001 - as the composition root would pass it
    with bench.engine.connect() as connection:
        letters = load_letters(connection, [1])
    with pytest.raises(KeyboardInterrupt):
        bench.batch.replay(letters)
    assert open_letters(bench) == [("handler", 1)]
    assert bench.outcomes() == {"evt_1": ("failed", "handler")}


def test_an_event_recorded_meanwhile_is_resolved(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """A letter whose event stands applied, however that came about, is closed without effect."""
    fail(bench, faulty, [start_of(1)])
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE webhook_events SET outcome = 'applied', reason = NULL"))
    assert run("replay", "1", "--yes").exit_code == 0
    assert open_letters(bench) == []
    assert bench.query("SELECT count(*) FROM subscriptions") == [(0,)]


def test_an_event_that_could_not_even_be_recorded_is_applied(bench: Bench, run: Run) -> None:
    """Where only the dead letter knows of an event, its bytes are enough."""
    with bench.engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE webhook_events ADD CONSTRAINT refuses CHECK (event_id <> 'evt_2')")
        )
    bench.apply([start_of(1), start_of(2)])
    assert run("replay", "--all", "--yes").exit_code == 3
    assert open_letters(bench) == [("data", 2)]
    with bench.engine.begin() as connection:
        connection.execute(text("ALTER TABLE webhook_events DROP CONSTRAINT refuses"))
    assert run("replay", "--all", "--yes").exit_code == 0
    assert open_letters(bench) == []
    assert bench.outcomes()["evt_2"] == ("applied", None)


def test_data_refused_again_does_not_hold_up_the_others(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """A part is split as a batch is: the culprit stays open with one attempt more, once."""
    fail(bench, faulty, [start_of(n) for n in range(1, 6)])
    with bench.engine.begin() as connection:
        connection.execute(text("ALTER TABLE subscriptions ADD CHECK (subscription_id <> 'sub_3')"))
    patch = faulty(lambda found: found.id == "evt_4")
    result = run("replay", "--all", "--yes")
    patch.undo()
    assert result.exit_code == 3
    assert open_letters(bench) == [("data", 2), ("handler", 2)]
    assert bench.query("SELECT count(*) FROM subscriptions") == [(3,)]
    assert bench.query("SELECT count(*) FROM billing_audit") == [(3,)]


def test_unsigned_records_count_only_if_their_secret_is_known_now(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaying is no way around the signature; a secret dropped too early is put back."""
    bench.batch.apply(records([start_of(1)], secret="whsec_dropped"), START)
    result = run("replay", "--all", "--yes")
    assert result.exit_code == 3
    assert "HOOKLINE_RETIRED_SECRETS" in result.output
    assert open_letters(bench) == [("unsigned", 2)]
    assert bench.outcomes() == {}
    monkeypatch.setenv("HOOKLINE_RETIRED_SECRETS", "whsec_dropped")
    assert run("replay", "--all", "--yes").exit_code == 0
    assert open_letters(bench) == []
    assert bench.outcomes() == {"evt_1": ("applied", None)}


def test_what_an_older_version_could_not_read_is_read_by_a_newer_one(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several records of one event are closed together, and it is applied once."""

    def unreadable(_: bytes) -> StripeEvent:
        raise BadEvent("odd", "the decoder of then cannot read it")

    with monkeypatch.context() as patch:
        patch.setattr(consumer.decode, "decode_event", unreadable)
        bench.apply([start_of(1), start_of(1), start_of(2)])
        assert open_letters(bench) == [("undecodable", 1)] * 3
        assert run("replay", "--all", "--yes").exit_code == 3
    assert open_letters(bench) == [("undecodable", 2)] * 3
    assert run("replay", "--all", "--yes").exit_code == 0
    assert open_letters(bench) == []
    assert bench.query("SELECT count(*) FROM billing_audit") == [(2,)]


def test_records_of_two_topics_at_one_place_are_told_apart(bench: Bench, run: Run) -> None:
    """Partition and offset name a record within one topic only."""
    forged = records([start_of(1), start_of(2)], secret="whsec_other")
    bench.batch.apply(forged[:1], START)
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE dead_letters SET topic = 'older'"))
        connection.execute(text("UPDATE consumer_positions SET next_offset = 0"))
    other = records([start_of(2)], secret="whsec_other")
    bench.batch.apply(other, START)
    assert run("replay", "--all", "--yes").exit_code == 3
    assert open_letters(bench) == [("unsigned", 2), ("unsigned", 2)]


def test_the_halt_rule_counts_no_replay(bench: Bench, run: Run, faulty: Callable[..., Any]) -> None:
    """An operator who tries in vain neither stops nor loses anything, and halts no consumer."""
    documents = [start_of(number) for number in range(60)]
    patch = faulty(lambda _: True)
    patch.setattr("consumer.halt.LETTERS", 1000)
    bench.apply(documents)
    patch.undo()
    with bench.engine.begin() as connection:
        connection.execute(
            text("UPDATE dead_letters SET last_failed_at = now() - interval '1 hour'")
        )
    patch = faulty(lambda _: True)
    try:
        assert run("replay", "--all", "--yes").exit_code == 3
        assert open_letters(bench) == [("handler", 2)] * 60
        # The next failure of a consumer is one of one, not the sixty-first.
        bench.apply([start_of(100)], {0: START[0].moved_to(60)})
    finally:
        patch.undo()
    assert len(open_letters(bench)) == 61


def test_a_part_waits_for_a_customer_that_a_consumer_works_on(
    bench: Bench, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the lock is free or the limit is over, after which the row lock decides."""
    hints = PatientHints(bench.redis)
    with redis.Redis.from_url(redis_url) as client:
        client.set(lock_key("cus_1"), "somebody")
        looked: list[float] = []

        def look(seconds: float) -> None:
            looked.append(seconds)
            if len(looked) == 3:
                client.delete(lock_key("cus_1"))

        monkeypatch.setattr("consumer.replay.time.sleep", look)
        assert hints.before(["evt_1"], ["cus_1"]).locks_held_by_others == 0
        assert len(looked) == 3
        client.set(lock_key("cus_1"), "somebody")
        monkeypatch.setattr("consumer.replay.LOCK_WAIT_SECONDS", 0)
        assert hints.before(["evt_1"], ["cus_1"]).locks_held_by_others == 1


def test_two_replays_at_once_apply_each_event_once(
    bench: Bench,
    run: Run,
    faulty: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both have read the same open letters; whoever comes second finds the events recorded."""
    _ = run
    fail(bench, faulty, [start_of(n, customer="cus_1") for n in range(1, 40)])
    settings = load(ReplaySettings)
    both_have_read = threading.Barrier(2)
    real = Replayer._load  # noqa: SLF001 - between reading and applying

    def load_together(self: Replayer, ids: Sequence[int]) -> Any:
        found = real(self, ids)
        both_have_read.wait(timeout=20)
        return found

    monkeypatch.setattr(Replayer, "_load", load_together)
    resolved: list[int] = []

    def replay() -> None:
        with build_replayer(settings, bench.engine) as replayer:
            resolved.extend(len(done.resolved) for done in replayer.run(range(1, 40)))

    threads = [threading.Thread(target=replay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resolved == [39, 39]
    assert open_letters(bench) == []
    assert bench.query("SELECT count(*) FROM billing_audit") == [(39,)]
    assert bench.query("SELECT DISTINCT attempts FROM dead_letters") == [(1,)]


def test_a_replay_beside_a_consumer_on_the_same_customer_waits_for_its_row(
    bench: Bench, run: Run, faulty: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that somebody holds is tried again until it is free."""
    fail(bench, faulty, [start_of(1)])
    monkeypatch.setattr("consumer.storage.engine.LOCK_TIMEOUT_MS", 1000)
    with psycopg.connect(bench.url) as rival:
        rival.execute("SELECT 1 FROM customers FOR UPDATE")
        timer = threading.Timer(2, rival.rollback)
        timer.start()
        result = run("replay", "--all", "--yes")
        timer.join()
    assert result.exit_code == 0
    assert open_letters(bench) == []


class Scripted:
    """A batch that fails as told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.seen: list[int] = []

    def replay(self, letters: Sequence[Any]) -> Any:
        """Raise what is next, or resolve all."""
        from consumer.origins import Replayed  # noqa: PLC0415

        if self.errors:
            raise self.errors.pop(0)
        found = [one.dead_letter_id for one in letters]
        self.seen += found
        return Replayed(frozenset(found))


def test_a_database_that_comes_back_is_tried_again(
    bench: Bench, faulty: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts go one after the other; away is tried again, a Halt is not."""
    monkeypatch.setattr("consumer.replay.LETTERS_AT_ONCE", 2)
    fail(bench, faulty, [start_of(n) for n in range(5)])
    away = Retry(Cause.AWAY, "the server closed the connection")
    scripted = Scripted(away, away)
    done = list(Replayer(bench.engine, bench.ledger, scripted).run([1, 2, 3, 4, 5]))
    assert [sorted(one.resolved) for one in done] == [[1, 2], [3, 4], [5]]
    assert scripted.seen == [1, 2, 3, 4, 5]
    with pytest.raises(Halt):
        list(Replayer(bench.engine, bench.ledger, Scripted(Halt("no"))).run([1]))


ENDS = (
    (KeyboardInterrupt(), 130, "Interrupted"),
    (Retry(Cause.AWAY, "refused"), 1, "PostgreSQL did not take it for a minute (refused)"),
)


@pytest.mark.parametrize("end", ENDS, ids=["ctrl_c", "away"])
def test_an_end_between_two_parts_tells_what_was_done(
    bench: Bench,
    run: Run,
    faulty: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    end: tuple[BaseException, int, str],
) -> None:
    """What was resolved by then stands, the rest is open, and one sentence says so."""
    error, code, words = end
    monkeypatch.setattr("consumer.replay.LETTERS_AT_ONCE", 2)
    monkeypatch.setattr("consumer.replay._patiently", lambda call, *given: call(*given))
    fail(bench, faulty, [start_of(n) for n in range(5)])
    real, parts = Replayer._replay, []  # noqa: SLF001 - where a part begins

    def second_fails(self: Replayer, letters: Any) -> Any:
        parts.append(letters)
        if len(parts) == 2:
            raise error
        return real(self, letters)

    monkeypatch.setattr(Replayer, "_replay", second_fails)
    result = run("replay", "--all", "--yes")
    assert result.exit_code == code
    assert words in result.output
    assert "2 dead letters resolved" in result.output
    assert len(open_letters(bench)) == 3


# --- list and show


def test_nothing_set_aside_is_a_sentence(run: Run) -> None:
    """An empty table would look like a fault."""
    result = run("list")
    assert (result.exit_code, result.output) == (0, "Nothing is set aside and open.\n")
    assert "of the reason data" in run("list", "--reason", "data").output
    assert json.loads(run("list", "--json").output) == {"dead_letters": [], "totals": {}}


def test_list_shows_the_oldest_first_and_counts_all(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """One line a letter where the output is no terminal, then how many by reason."""
    fail(bench, faulty, [start_of(1), start_of(2)])
    type_ = base64.b64encode(b"customer.subscription.created").decode()
    with bench.engine.begin() as connection:
        connection.execute(
            text("UPDATE dead_letters SET headers = CAST(:headers AS jsonb)"),
            {"headers": json.dumps([["ce_id", "ZXZ0"], ["ce_type", type_]])},
        )
    bench.batch.apply(
        records([start_of(3)], first=2, secret="whsec_other"), {0: START[0].moved_to(2)}
    )
    lines = [line.split("\t") for line in run("list").output.splitlines()]
    assert lines[0][:4] == ["id", "reason", "age", "attempts"]
    assert [line[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert lines[1][4:8] == ["evt_1", "cus_1", "customer.subscription.created", f"{TOPIC}/0/0"]
    assert lines[3][1:] == [
        "unsigned", lines[3][2], "1", "-", "-", "-", f"{TOPIC}/0/2", "wrong_signature"
    ]  # fmt: skip
    assert lines[-1] == ["3 open dead letters: 2 handler, 1 unsigned"]
    short = run("list", "--limit", "1").output.splitlines()
    assert short[-1].startswith("the oldest 1 of 3 open dead letters: 2 handler, 1 unsigned")
    assert [line[:1] for line in run("list", "--reason", "unsigned").output.splitlines()[1:]] == [
        "3",
        "1",
    ]


def test_resolved_ones_are_shown_when_asked_for(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """The open ones are what waits for somebody."""
    fail(bench, faulty, [start_of(1)])
    assert run("replay", "1", "--yes").exit_code == 0
    assert run("list").output == "Nothing is set aside and open.\n"
    assert "handler, resolved" in run("list", "--resolved").output
    assert "Resolved already: 1." in run("replay", "1").output
    assert "handler, resolved" in run("show", "1").output


ODD = b'{"id": "evt_1", "note": "\x1b[2J\xe2\x80\xae"}'


def put(bench: Bench, body: bytes | None, reason: str = "handler", **fields: str) -> int:
    """Set a record aside by hand; returns its number."""
    headers = [["ce_id", base64.b64encode(b"evt_\x1b[31m").decode()]] + [
        [name, base64.b64encode(value.encode()).decode()] for name, value in fields.items()
    ]
    with psycopg.connect(bench.url) as connection:
        row = connection.execute(
            "INSERT INTO dead_letters (reason, error, topic, partition, kafka_offset, key, headers,"
            " body) VALUES (%s, %s, 't', 0, 7, 'k', %s, %s) RETURNING dead_letter_id",
            [reason, "bad \x1b[31m text", json.dumps(headers), body],
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("body", [b"", ODD, bytes(range(256)), b"\r\n\n", b"x" * 500_000])
def test_body_writes_the_stored_bytes_and_nothing_else(bench: Bench, run: Run, body: bytes) -> None:
    """Whatever they are: `| sha256sum` and `> file` give the record's."""
    assert run("show", str(put(bench, body)), "--body").stdout_bytes == body


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (b'{"a":[1],"b":"\xc3\xa9"}', "JSON", '  "b": "é"'),
        (ODD.replace(b"\x1b", b"\\u001b"), "JSON", r'"note": "\u001b[2J\u202e"'),
        (b"hello\nw\x1b[2Jorld", "not JSON", r"w\x1b[2Jorld"),
        (b"\xff\xfe", "not UTF-8", r"\xff\xfe"),
        (b"[" * 100_000, "not JSON", "[["),
    ],
    ids=["json", "json_with_controls", "text", "bytes", "deep"],
)
def test_show_is_safe_for_a_terminal(
    bench: Bench, run: Run, body: bytes, kind: str, shown: str
) -> None:
    """Readable, and no byte of a record reaches a terminal as a command."""
    output = run("show", str(put(bench, body))).output
    assert f"body, {len(body):,} bytes, {kind}" in output
    assert shown in output
    assert sha256(body).hexdigest() in output
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "\x1b" not in run("list").output


def test_show_tells_all_but_the_signature(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """Reason with its sentence, attempts, times, place, key, headers; of a signature that it is."""
    fail(bench, faulty, [start_of(1)])
    (signature,) = [v.decode() for k, v in records([start_of(1)])[0].headers if "sig" in k]
    output = run("show", "1").output
    for part in (
        "dead letter 1: handler, open",
        "Hookline's own code raised on it.",
        "ZeroDivisionError",
        "first failed",
        "partition 0, offset 0",
        "cus_1",
        "hookline_signature     present",
    ):
        assert part in output
    document = json.loads(run("show", "1", "--json").output)
    assert base64.b64decode(document["body"]) == json.dumps(start_of(1)).encode()
    assert document["headers"] == [["hookline_signature", "present"]]
    assert signature.split("v1=")[1] not in output + json.dumps(document)


def test_an_unsigned_body_is_marked_as_nobodys_word(bench: Bench, run: Run) -> None:
    """A stranger's text must not be taken for Stripe's."""
    number = put(bench, b"{}", "unsigned")
    assert "Nobody's word" in run("show", str(number)).output


def test_a_record_without_a_value_has_no_bytes(bench: Bench, run: Run) -> None:
    """Shown as such; --body says so instead of writing nothing."""
    number = put(bench, None, "undecodable")
    assert "none: a record without a value" in run("show", str(number)).output
    result = run("show", str(number), "--body")
    assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "7"], "there is no dead letter 7"),
        (["replay", "7", "8"], "there is no dead letter 7, 8"),
        (["replay"], "say which"),
        (["replay", "7", "--all"], "say which"),
        (["replay", "--reason", "x\x1b"], r"--reason x\x1b: give one of undecodable"),
        (["list", "--reason", "x"], "--reason x: give one of"),
        (["show", "7", "--body", "--json"], "give one of them"),
    ],
)
def test_a_typing_error_is_a_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    """What cannot be done is said, and nothing is done."""
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)
    assert sentence in str(result.exception)


def test_a_failure_of_an_invoice_replayed_late_grants_no_new_grace(
    bench: Bench, run: Run, faulty: Callable[..., Any]
) -> None:
    """Grace runs from the failure itself, however late the replay."""
    failed = event(
        "invoice.payment_failed", invoice(id="in_9", subscription="sub_1"), DAY, id="evt_f"
    )
    bench.apply([start_of(1)])
    fail_at = {0: START[0].moved_to(1)}
    patch = faulty(lambda _: True)
    bench.apply([failed], fail_at)
    patch.undo()
    assert run("replay", "--all", "--yes").exit_code == 0
    assert bench.query(
        "SELECT status, extract(epoch FROM grace_until)::bigint FROM subscriptions"
    ) == [("past_due", failed["created"] + DAY)]
