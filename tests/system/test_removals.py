"""Retention and erasure on a deployment at work: what must go is gone, and nothing else changes."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, time

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from consumer.storage.partitions import add_months, attach_months, month_name
from ops.cli import app
from ops.invariants.checker import find
from ops.invariants.subject import Sent
from ops.simulator.history import History, World
from support.invariants import engine_of, subject_of
from support.load import Load, histories, shuffled
from support.pipeline import Pipeline, recorded
from support.polling import eventually
from support.stripe import event, subscription

IDS = ("I1", "I2", "I3", "I5", "I6", "I7", "I10")
STATE = """
SELECT subscription_id, status, tier, prices, cancel_at, current_period_end, latest_invoice,
  grace_until, ambiguous, facts FROM subscriptions ORDER BY subscription_id
"""
# A grace period's end is written when its time comes, not with an event.
TRAIL = """
SELECT event_id, subscription_id, action, after FROM billing_audit
WHERE action <> 'grace_period_expired' ORDER BY audit_id
"""
Run = Callable[..., Result]


@pytest.fixture
def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Provide the command, with the settings of the deployment."""
    for name, value in {**pipeline.variables, "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def check(pipeline: Pipeline, known: list[History]) -> list[str]:
    """Return what the invariants find, every accepted event included."""
    accepted = {
        event.id: Sent(one.truth.customer_id, datetime.fromtimestamp(event.created, UTC))
        for one in known
        for event in one.events
    }
    with subject_of(pipeline, accepted=accepted, records=None, rest_seconds=60) as subject:
        return [str(finding) for finding in find(subject, IDS)]


def test_an_erased_customer_is_gone_and_everything_else_holds(pipeline: Pipeline, run: Run) -> None:
    """Events, dead letters, reference and their trail go; state, answer and invariants stay."""
    pipeline.start("ingest", "consumer-1")
    known = histories(5, "erase")
    subject = next(one.truth for one in known if one.truth.reference)
    customer, reference = subject.customer_id, str(subject.reference)
    assert set(pipeline.post_all(shuffled(known))) == {200}
    eventually(lambda: recorded(pipeline) == sum(len(one.events) for one in known), 60)
    pipeline.execute(
        "INSERT INTO dead_letters (event_id, customer_id, reason, error, topic, partition,"
        " kafka_offset, headers, body, resolved_at)"
        " VALUES ('evt_x', %s, 'data', 'x', 't', 0, 0, '[]', 'secret', now())",
        customer,
    )
    before = pipeline.query(STATE)

    said = run("erase", customer)
    assert said.exit_code == 0, said.output
    assert "1 dead letter, the reference" in said.output
    assert "Nothing was removed" in said.output
    assert check(pipeline, known) == []

    done = run("erase", customer, "--yes")
    assert done.exit_code == 0, done.output
    assert (
        f"records of the customer stay in {pipeline.variables['HOOKLINE_KAFKA_TOPIC']}"
        in done.output
    )
    assert reference not in done.output
    with closing(engine_of(pipeline).connect()) as connection:
        tables = ("webhook_events", "dead_letters", "billing_audit", "customers", "removals")
        for table in tables:
            rows = connection.execute(text(f"SELECT CAST(t AS text) FROM {table} AS t")).scalars()  # noqa: S608 - our own names
            assert reference not in "\n".join(rows), table
    for table in ("webhook_events", "dead_letters"):
        assert pipeline.query(f"SELECT 1 FROM {table} WHERE customer_id = '{customer}'") == []  # noqa: S608 - our own names
    assert pipeline.query(STATE) == before
    # The records still lie in Kafka, and every event was answered 200: gone on purpose, not lost.
    assert check(pipeline, known) == []
    assert "was erased on" in run("erase", customer).output
    assert "and the facts up to" in run("recompute", "--customer", customer).output
    told = run("explain", customer).output
    assert "the events before were removed" in told
    assert run("recompute").exit_code == 0

    # What is lost all the same is still found: somebody else's event, and a later one of theirs.
    other = next(one for one in known if one.truth.customer_id != customer)
    lost = other.events[0].id
    pipeline.execute("DELETE FROM webhook_events WHERE event_id = %s", lost)
    new = event("customer.subscription.created", subscription(customer=customer, id="sub_new"))
    assert pipeline.post(new).is_success
    eventually(
        lambda: bool(pipeline.query(f"SELECT 1 FROM webhook_events WHERE event_id = '{new['id']}'"))  # noqa: S608 - made up here
    )
    pipeline.execute("DELETE FROM webhook_events WHERE event_id = %s", new["id"])
    found = [line for line in check(pipeline, known) if line.startswith("I1")]
    assert any(lost in line for line in found)
    assert any(str(new["id"]) in line for line in found)


@pytest.mark.parametrize("argument", ["sub_1", "cus_", "' OR 1=1"])
def test_what_is_no_customer_is_not_erased(run: Run, argument: str) -> None:
    """Another kind of id is refused before anything is asked."""
    assert "is no customer's id" in str(run("erase", argument, "--yes").exception)


def test_a_customer_never_seen_is_not_added_by_erasing(pipeline: Pipeline, run: Run) -> None:
    """Erasing nobody says so, and leaves no row of them."""
    assert "No event, dead letter or reference" in run("erase", "cus_nobody", "--yes").output
    assert pipeline.query("SELECT 1 FROM customers") == []
    assert pipeline.query("SELECT 1 FROM removals") == []


def test_old_months_go_under_load_and_the_state_stays(pipeline: Pipeline, run: Run) -> None:
    """Events of old months and of months without a table go; applied again, they change nothing."""
    this_month = datetime.now(UTC).date().replace(day=1)
    with engine_of(pipeline).begin() as connection:
        attach_months(connection, add_months(this_month, -3))
    pipeline.start("ingest", "consumer-1")
    # They end as the month begins, so that they reach back behind the one before on any day of it.
    end = datetime.combine(this_month, time(), UTC)
    known = list(World("old", int(end.timestamp())).histories(12))
    assert set(pipeline.post_all(shuffled(known))) == {200}
    events = sum(len(one.events) for one in known)
    eventually(lambda: recorded(pipeline) == events, 60, "applying all")
    before, trail = pipeline.query(STATE), pipeline.query(TRAIL)
    cutoff = add_months(this_month, -1)
    old = count_before(pipeline, cutoff)
    tables = month_tables(pipeline)
    assert old > 0
    assert min(tables) < month_name(cutoff)

    dry = run("retention", "--months", "1")
    assert "Nothing was removed" in dry.output, dry.output
    assert recorded(pipeline) == events
    load = Load(pipeline, [later_event(number) for number in range(200)])
    done = run("retention", "--months", "1", "--yes")
    assert set(load.wait()) == {200}
    assert done.exit_code == 0, (done.output, done.exception)
    eventually(lambda: recorded(pipeline) == events - old + 200, 60, "applying the load")
    assert count_before(pipeline, cutoff) == 0
    # The consumer may have made room for months ahead meanwhile.
    left = month_tables(pipeline)
    assert min(left) >= month_name(cutoff)
    assert set(left) >= {name for name in tables if name >= month_name(cutoff)}
    assert "is left to remove" in run("retention", "--months", "1", "--yes").output
    pipeline.execute("DELETE FROM subscriptions WHERE customer_id = 'cus_load'")
    pipeline.execute("DELETE FROM webhook_events WHERE customer_id = 'cus_load'")
    pipeline.execute("DELETE FROM billing_audit WHERE customer_id = 'cus_load'")
    assert pipeline.query(STATE) == before
    assert pipeline.query(TRAIL) == trail
    assert [line for line in check(pipeline, known) if "evt_load" not in line] == []
    said = run("recompute").output
    assert "and the facts up to" in said
    assert "no difference" in said

    # Kafka still has them: a database that is set back, or a gap accepted, brings them again.
    pipeline.members["consumer-1"].process.stop()
    pipeline.execute("UPDATE consumer_positions SET next_offset = 0, epoch = epoch + 1")
    pipeline.start("consumer-2")
    eventually(lambda: recorded(pipeline) == events + 200, 60, "applying all again")
    pipeline.execute("DELETE FROM subscriptions WHERE customer_id = 'cus_load'")
    assert pipeline.query(STATE) == before
    pipeline.execute("DELETE FROM billing_audit WHERE customer_id = 'cus_load'")
    assert pipeline.query(TRAIL) == trail


def later_event(number: int) -> dict[str, object]:
    """Return an event of now, of a customer whom the histories do not know."""
    bought = subscription(customer="cus_load", id=f"sub_load_{number}")
    return event("customer.subscription.created", bought) | {
        "id": f"evt_load_{number}",
        "created": int(datetime.now(UTC).timestamp()),
    }


def count_before(pipeline: Pipeline, month: date) -> int:
    """Return how many recorded events were created before a month."""
    found = pipeline.query(f"SELECT count(*) FROM webhook_events WHERE created_at < '{month}'")  # noqa: S608 - a date
    return int(found[0][0])


def month_tables(pipeline: Pipeline) -> list[str]:
    """Return the tables of months."""
    rows = pipeline.query(
        "SELECT relname FROM pg_class WHERE relname ~ '^webhook_events_[0-9_]+$' AND relispartition"
        " AND relkind = 'r' ORDER BY 1"
    )
    return [name for (name,) in rows]
