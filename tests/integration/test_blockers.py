"""A session that holds our rows and will not let go is ended, an innocent one is not."""

import psycopg
import pytest
from psycopg import sql

from consumer.errors import Cause, Retry
from consumer.storage import blockers
from support.bench import Bench
from support.stripe import event, subscription


@pytest.fixture
def rival(bench: Bench) -> psycopg.Connection:
    """Provide a session of our role that holds the position's row."""
    connection = psycopg.connect(bench.url)
    connection.execute("SELECT FROM consumer_positions FOR UPDATE")
    return connection


def test_a_blocking_session_is_ended(
    bench: Bench, rival: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While we wait for it, once it is older than two lock timeouts; the batch then stands."""
    monkeypatch.setattr(blockers, "HELD_SECONDS", 0)
    ended: list[int] = []
    bench.ledger._on_ended = lambda: ended.append(1)  # noqa: SLF001 - as the composition root would
    with bench.ledger.ending_blockers():
        bench.apply([event("customer.subscription.created", subscription())])
    assert ended == [1]
    with pytest.raises(psycopg.OperationalError):
        rival.execute("SELECT 1")


@pytest.mark.parametrize("held", [60.0])
def test_a_session_that_has_just_begun_is_not(
    bench: Bench, rival: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, held: float
) -> None:
    """A rival at work is waited for: the lock timeout is a Retry."""
    monkeypatch.setattr(blockers, "HELD_SECONDS", held)
    with bench.ledger.ending_blockers(), pytest.raises(Retry) as caught:
        bench.apply([event("customer.subscription.created", subscription())])
    assert caught.value.cause is Cause.BLOCKED
    rival.execute("SELECT 1")
    rival.close()


def test_another_roles_session_is_not_ours_to_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a migration or a person: it is left alone, and we wait on."""
    monkeypatch.setattr(blockers, "HELD_SECONDS", 0)
    name = f"other_{bench.url.rsplit('_', 1)[1]}"
    role = sql.Identifier(name)
    with psycopg.connect(bench.url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD 'made-up'").format(role))
        try:
            with psycopg.connect(bench.url, user=name, password="made-up") as rival:
                rival.execute("SELECT FROM consumer_positions FOR UPDATE")
                with bench.ledger.ending_blockers(), pytest.raises(Retry):
                    bench.apply([event("customer.subscription.created", subscription())])
                rival.execute("SELECT 1")
        finally:
            owner.execute(sql.SQL("DROP ROLE {}").format(role))
