"""The one place that lies inside COMMIT, on a real database."""

from datetime import UTC, datetime

import pytest

from consumer.failpoints import arm
from support.bench import START, Bench, records
from support.stripe import event, subscription


def test_a_batch_goes_through_in_commit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMMIT is sent, the place is reached, and the driver finds the transaction ended well."""
    stood: list[list[tuple[int]]] = []
    reach = arm("in_commit:sleep=0.2", bench.engine)

    def look(seconds: float) -> None:
        """By the time the answer is read, the commit has long happened."""
        deadline = datetime.now(UTC).timestamp() + 10
        while not stood or (stood[-1] == [(0,)] and datetime.now(UTC).timestamp() < deadline):
            stood.append(bench.query("SELECT count(*) FROM webhook_events"))
        assert seconds == 0.2

    monkeypatch.setattr("consumer.failpoints.time.sleep", look)
    bench.batch._reach = reach  # noqa: SLF001 - as the composition root would pass it
    document = event("customer.subscription.created", subscription())
    assert bench.batch.apply(records([document]), START)[0].next_offset == 1
    assert stood[-1] == [(1,)]
    # The connection is as good as before.
    assert bench.batch.apply(records([document], 1), {0: START[0].moved_to(1)})[0].next_offset == 2
