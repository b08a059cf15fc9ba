"""PostgreSQL away, broken off, set back, contended, full or read-only: wait, and lose nothing."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ops.embedded.stack import Stack
from support.databases import DISK_FULL
from support.forked import Fleet
from support.invariants import behind
from support.load import Load, histories, shuffled
from support.pipeline import Pipeline, counted, is_ready, log_of, owned, pids, recorded
from support.polling import eventually
from support.proving import Proof, examples
from support.proxy import Proxy
from support.rest import check_at_rest
from support.stripe import Json
from support.topic import Topic

CONSUMERS = ("consumer-1", "consumer-2")
HISTORIES = examples(200, 40)

own_stack = pytest.mark.skipif(
    os.environ.get("HOOKLINE_TEST_STACK", "embedded") != "embedded",
    reason="kills servers, so it starts its own",
)


def start(pipeline: Pipeline, *more: str) -> None:
    """Start two consumers and wait until each owns its half."""
    pipeline.start(*CONSUMERS, *more)
    eventually(lambda: all(owned(pipeline, name) == 6 for name in CONSUMERS), what="the shares")


@contextmanager
def members_stay(pipeline: Pipeline) -> Iterator[None]:
    """Demand that the same processes own the same partitions all the time."""
    before = pids(pipeline)
    logs = {name: len(log_of(pipeline, name)) for name in CONSUMERS}
    yield
    assert pids(pipeline) == before
    for name, length in logs.items():
        assert "partitions_released" not in log_of(pipeline, name)[length:]


def administer(pipeline: Pipeline) -> "psycopg.Connection":
    """Connect to a deployment's database, each statement its own transaction."""
    return psycopg.connect(pipeline.variables["HOOKLINE_DATABASE_URL"], autocommit=True)


# --- away


@own_stack
def test_20_postgresql_killed_and_away(deployment: Pipeline, stack: Stack) -> None:
    """Consumers wait in their group, set nothing aside, and apply everything afterwards."""
    start(deployment, "ingest")
    known = histories(examples(100, 25), "20")
    with members_stay(deployment):
        load_ = Load(deployment, shuffled(known))
        eventually(lambda: recorded(deployment) > 50, what="the first batches")
        stack.postgres.kill()
        assert set(load_.wait()) == {200}
        eventually(lambda: not any(is_ready(deployment, name) for name in CONSUMERS))
        # Longer than sessions, backoff and every other limit but max.poll.interval.
        time.sleep(examples(60, 1))
        stack.postgres.start()
        check_at_rest(deployment, known)
    eventually(lambda: all(is_ready(deployment, name) for name in CONSUMERS))


TERMINATE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'hookline-consumer'
"""


def test_20_backends_terminated(fleet: Fleet, log: Topic, proof: Proof) -> None:
    """A connection that an administrator ends, at any moment, costs a pause and nothing else."""
    start(fleet)
    wanted = examples(300, 10)
    known = histories(HISTORIES, "20 backends")
    events = shuffled(known, copies=2)
    terminated = sent = 0
    bar = proof.track(range(wanted), wanted)
    with members_stay(fleet), administer(fleet) as admin:
        while terminated < wanted:
            # The rest of the load lies ahead until the last backend is gone.
            upto = len(events) * (terminated + 1) // wanted
            log.send(events[sent:upto])
            sent = max(sent, upto)
            row = admin.execute(TERMINATE).fetchone()
            assert row is not None
            terminated += row[0]
            for _ in range(row[0]):
                next(bar, None)
        log.send(events[sent:])
        proof.count(terminated=terminated)
        check_at_rest(fleet, known)


# --- set back

TABLES = (
    "webhook_events",
    "customers",
    "subscriptions",
    "billing_audit",
    "dead_letters",
    "cache_invalidations",
    "consumer_positions",
)


def keep(admin: "psycopg.Connection") -> None:
    """Keep a copy of all tables, taken at one moment."""
    with admin.transaction():
        admin.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in TABLES:
            names = {"copy": sql.Identifier(f"kept_{table}"), "table": sql.Identifier(table)}
            admin.execute(sql.SQL("DROP TABLE IF EXISTS {copy}").format(**names))
            admin.execute(sql.SQL("CREATE TABLE {copy} AS SELECT * FROM {table}").format(**names))


def set_back(admin: "psycopg.Connection") -> None:
    """Put the kept rows back in one transaction, positions included, as a restore does."""
    with admin.transaction():
        tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        admin.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables))
        for table in TABLES:
            names = {"copy": sql.Identifier(f"kept_{table}"), "table": sql.Identifier(table)}
            admin.execute(sql.SQL("DELETE FROM {table}").format(**names))
            admin.execute(
                sql.SQL("INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {copy}").format(
                    **names
                )
            )


def test_21_set_back_under_a_living_connection(fleet: Fleet, log: Topic, proof: Proof) -> None:
    """Positions went back with the rest, Kafka gives the lost part again, old marks hide none."""
    start(fleet)
    rounds = examples(20, 2)
    known = histories(HISTORIES, "21")
    events = shuffled(known, copies=3)
    pieces = [events[n :: 3 * rounds] for n in range(3 * rounds)]
    with members_stay(fleet), administer(fleet) as admin:
        for number in proof.track(range(rounds), rounds):
            kept, lost, after = pieces[3 * number : 3 * number + 3]
            log.send(kept)
            eventually(lambda: recorded(fleet) > 0, what="the first batches")
            keep(admin)
            log.send(lost)
            stood = recorded(fleet)
            eventually(lambda stood=stood: recorded(fleet) > stood, what="what is lost")  # type: ignore[misc]
            retrying(lambda: set_back(admin))
            log.send(after)
            proof.count(set_back=1)
        check_at_rest(fleet, known)


def test_21_set_back_while_nothing_comes(fleet: Fleet, log: Topic) -> None:
    """A partition that gets no new record finds out as well, and reads the lost part again."""
    start(fleet)
    known = histories(HISTORIES, "21 quiet")
    with administer(fleet) as admin:
        keep(admin)
        log.send(shuffled(known))
        check_at_rest(fleet, known)
        retrying(lambda: set_back(admin))
        assert recorded(fleet) == 0
        check_at_rest(fleet, known)


def retrying(what: Callable[[], None]) -> None:
    """Do it again where a consumer's locks made a deadlock of it."""

    def succeeds() -> bool:
        try:
            what()
        except psycopg.errors.DeadlockDetected:
            return False
        return True

    eventually(succeeds, what="the restore")


@own_stack
@pytest.mark.long_run
def test_21_data_folder_of_an_earlier_day(
    deployment: Pipeline, stack: Stack, tmp_path: Path
) -> None:
    """The same with PostgreSQL's own files, as a restore or a lagging standby leaves them."""
    start(deployment)
    known = histories(HISTORIES, "21 files")
    events = shuffled(known, copies=3)
    pieces = [events[n::3] for n in range(3)]
    data = tmp_path / "stack" / "postgresql" / "data"
    topic = Topic(deployment)
    with members_stay(deployment):
        topic.send(pieces[0])
        eventually(lambda: recorded(deployment) > 100, what="the first batches")
        stack.postgres.stop()
        shutil.copytree(data, tmp_path / "earlier", symlinks=True)
        stack.postgres.start()
        topic.send(pieces[1])
        eventually(lambda: recorded(deployment) > 400, what="what is lost")
        stack.postgres.kill()
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "earlier", data, symlinks=True)
        data.chmod(0o700)
        stack.postgres.start()
        topic.send(pieces[2])
        check_at_rest(deployment, known)


# --- COMMIT in doubt


@pytest.mark.parametrize("answered", [False, True], ids=["never arrived", "committed"])
def test_22_connection_cut_inside_commit(
    fleet: Fleet,
    log: Topic,
    proof: Proof,
    answered: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Whichever way it ended, the position decides: nothing is lost, each effect stands once."""
    cuts = examples(50, 5)
    known = histories(HISTORIES, f"22 {answered}")
    events = shuffled(known, copies=2)
    url = fleet.variables["HOOKLINE_DATABASE_URL"]
    port = int(str(psycopg.conninfo.conninfo_to_dict(url)["port"]))
    with Proxy(port) as proxy:
        led = {"HOOKLINE_DATABASE_URL": url.replace(f":{port}/", f":{proxy.port}/")}
        direct, fleet.variables = fleet.variables, {**fleet.variables, **led}
        start(fleet)
        fleet.variables = direct
        with members_stay(fleet):
            for _ in proof.track(range(cuts), cuts):
                cut_a_batch(fleet, log, proxy, events, answered=answered)
                proof.count(in_doubt=1)
            log.send(events)
            check_at_rest(fleet, known)
        fleet.stop()


def cut_a_batch(
    fleet: Fleet, log: Topic, proxy: Proxy, events: list[Json], *, answered: bool
) -> None:
    """Send a few events at a time until a batch's COMMIT was cut, not one of housekeeping."""
    before = interrupted(fleet)
    while interrupted(fleet) == before:
        cuts = proxy.cuts
        proxy.cut_at(b"COMMIT", answered=answered)
        log.send(events[:10])
        del events[:10]
        assert events, "no batch was cut while there was anything to send"
        eventually(lambda cuts=cuts: proxy.cuts > cuts, what="a cut")  # type: ignore[misc]
        eventually(lambda: all(is_ready(fleet, name) for name in CONSUMERS), what="going on")


def interrupted(pipeline: Pipeline) -> int:
    """Return how many batches the loss of the connection has interrupted."""
    return int(sum(verdicts(pipeline, name).get("away", 0) for name in CONSUMERS))


def verdicts(pipeline: Pipeline, name: str) -> dict[str, float]:
    """Return how often a consumer's batches ended in which way."""
    found = counted(pipeline.metrics(name), "hookline_consumer_batches_total")
    return {label.split('"')[1]: count for label, count in found.items()}


# --- contended

RAISE = """
CREATE SEQUENCE raised;
CREATE FUNCTION raise_at_random() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  states text[] := ARRAY['40001', '40P01', '55P03'];
  -- There is a row for each partition of a batch, and one statement.
  chance float := 0.5;
BEGIN
  IF TG_LEVEL = 'ROW' THEN chance := 0.1; END IF;
  IF random() < chance AND nextval('raised') <= {most} THEN
    RAISE EXCEPTION 'forced by a test' USING ERRCODE = states[1 + floor(random() * 3)::int];
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER at_the_statement BEFORE UPDATE ON consumer_positions
  FOR EACH STATEMENT EXECUTE FUNCTION raise_at_random();
CREATE CONSTRAINT TRIGGER at_the_commit AFTER UPDATE ON consumer_positions
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_at_random();
"""


def contended(pipeline: Pipeline) -> int:
    """Return how many tries of batches ended in contention."""
    found = (verdicts(pipeline, name) for name in CONSUMERS)
    return int(sum(one.get("contention", 0) + one.get("blocked", 0) for one in found))


def test_23_serialization_failures_and_deadlocks(fleet: Fleet, log: Topic, proof: Proof) -> None:
    """Raised at a statement or at COMMIT, again and again: all finish, no dead letter."""
    wanted = examples(1000, 60)
    with administer(fleet) as admin:
        admin.execute(RAISE.format(most=wanted))
    start(fleet)
    known = histories(HISTORIES, "23")
    events = shuffled(known, copies=20)
    bar = proof.track(range(wanted), wanted)
    with members_stay(fleet):
        while proof.counts["contended"] < wanted and events:
            log.send(events[:20])
            del events[:20]
            for _ in range(contended(fleet) - proof.counts["contended"]):
                next(bar, None)
                proof.count(contended=1)
        log.send(events)
        check_at_rest(fleet, known)
    assert contended(fleet) == wanted


class Rival(threading.Thread):
    """Takes the customers' row locks one by one in the opposite order, again and again."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline
        self.is_done = threading.Event()

    def run(self) -> None:
        """Go on until told, over a new session where a consumer has ended the old one."""
        while not self.is_done.is_set():
            with suppress(psycopg.OperationalError), administer(self._pipeline) as rival:
                # The other side is to be the victim.
                rival.execute("SET deadlock_timeout = '10s'")
                while not self.is_done.is_set():
                    self._take_all(rival)

    def _take_all(self, rival: "psycopg.Connection") -> None:
        with rival.transaction():
            found = rival.execute(
                "SELECT customer_id FROM customers ORDER BY customer_id DESC LIMIT 20"
            ).fetchall()
            for row in found:
                rival.execute("SELECT 1 FROM customers WHERE customer_id = %s FOR UPDATE", row)
                self.is_done.wait(0.005)


def test_23_real_deadlocks(fleet: Fleet, log: Topic, proof: Proof) -> None:
    """A rival that locks the same rows in the opposite order delays, and changes nothing."""
    wanted = examples(50, 5)
    with administer(fleet) as admin:
        admin.execute(database_setting(fleet, "SET deadlock_timeout = '20ms'"))
    start(fleet)
    known = histories(examples(400, 60), "23 rival")
    events = shuffled(known)
    rival = Rival(fleet)
    rival.start()
    try:
        with members_stay(fleet):
            bar = proof.track(range(wanted), wanted)
            while (deadlocks := contended(fleet)) < wanted and events:
                for _ in range(deadlocks - proof.counts["deadlocks"]):
                    next(bar, None)
                    proof.count(deadlocks=1)
                log.send(events[:50])
                del events[:50]
                # Only an event that is new takes a customer's row.
                eventually(lambda: behind(fleet) < 200, 60, "applying")
            log.send(events)
            assert contended(fleet) >= wanted
            rival.is_done.set()
            check_at_rest(fleet, known)
    finally:
        rival.is_done.set()
        rival.join()
    assert "deadlock detected" in log_of(fleet, "consumer-1") + log_of(fleet, "consumer-2")


# --- takes no writes


def test_24_read_only_database(fleet: Fleet, log: Topic) -> None:
    """A database that takes no writes, as after a fail-over, is waited for."""
    start(fleet)
    known = histories(HISTORIES, "24 read-only")
    events = shuffled(known, copies=2)
    log.send(events[: len(events) // 2])
    eventually(lambda: recorded(fleet) > 0, what="the first batches")
    with members_stay(fleet), administer(fleet) as admin:
        alter = database_setting(fleet, "SET default_transaction_read_only = on")
        admin.execute(alter)
        admin.execute(TERMINATE)
        log.send(events[len(events) // 2 :])
        eventually(lambda: not any(is_ready(fleet, name) for name in CONSUMERS), 60)
        eventually(lambda: "read-only" in says_why(fleet), what="saying why")
        admin.execute(database_setting(fleet, "RESET default_transaction_read_only"))
        check_at_rest(fleet, known)
    eventually(lambda: all(is_ready(fleet, name) for name in CONSUMERS))


def test_24_read_only_from_the_first_position_on(fleet: Fleet, log: Topic) -> None:
    """A consumer that starts on a database without writes begins once there is one."""
    known = histories(5, "24 start")
    log.send(shuffled(known))
    with administer(fleet) as admin:
        admin.execute(database_setting(fleet, "SET default_transaction_read_only = on"))
        fleet.spawn("consumer-1")
        eventually(lambda: "cannot execute INSERT" in fleet.log("consumer-1"), 60, "noticing")
        admin.execute(database_setting(fleet, "RESET default_transaction_read_only"))
    check_at_rest(fleet, known)


def database_setting(pipeline: Pipeline, change: str) -> sql.Composed:
    """Return the statement that changes a default of a deployment's database."""
    url = pipeline.variables["HOOKLINE_DATABASE_URL"]
    name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    return sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(name), sql.SQL(change))


def says_why(pipeline: Pipeline) -> str:
    """Return what readiness says of PostgreSQL."""
    return " ".join(pipeline.readiness(n)[1]["checks"]["postgresql"] for n in CONSUMERS)


def test_24_disk_full(fleet: Fleet, log: Topic) -> None:
    """No space left, said by PostgreSQL in its own words: wait, and go on when there is some."""
    start(fleet)
    known = histories(HISTORIES, "24 full")
    events = shuffled(known, copies=2)
    log.send(events[: len(events) // 2])
    eventually(lambda: recorded(fleet) > 0, what="the first batches")
    with members_stay(fleet), administer(fleet) as admin:
        admin.execute(DISK_FULL)
        log.send(events[len(events) // 2 :])
        eventually(lambda: not any(is_ready(fleet, name) for name in CONSUMERS), 60)
        eventually(lambda: "No space left" in says_why(fleet), what="saying why")
        admin.execute("DROP FUNCTION disk_full CASCADE")
        check_at_rest(fleet, known)
    eventually(lambda: all(is_ready(fleet, name) for name in CONSUMERS))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a tmpfs of 4 MB there; skips the test where mounting is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "tmpfs", str(folder)]
    try:
        answer = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if answer.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount: {answer.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


@own_stack
@pytest.mark.long_run
def test_24_real_disk_full(deployment: Pipeline, stack: Stack, tmp_path: Path) -> None:
    """The same on a disk of four megabytes that somebody has filled."""
    disk = tmp_path / "disk"
    known = histories(HISTORIES, "24 disk")
    events = shuffled(known)
    topic = Topic(deployment)
    with small_disk(disk):
        with psycopg.connect(stack.postgres.url, autocommit=True) as admin:
            location = sql.Literal(str(disk))
            admin.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(location))
            admin.execute("ALTER TABLE billing_audit SET TABLESPACE small")
        start(deployment)
        with members_stay(deployment):
            topic.send(events[: len(events) // 2])
            eventually(lambda: recorded(deployment) > 0, what="the first batches")
            fill(disk / "ballast")
            topic.send(events[len(events) // 2 :])
            eventually(lambda: not all(is_ready(deployment, name) for name in CONSUMERS), 60)
            eventually(lambda: "No space left" in says_why(deployment), what="saying why")
            (disk / "ballast").unlink()
            check_at_rest(deployment, known)
        deployment.stop()
        stack.postgres.stop()


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return
