"""Being stuck is a fault too: a consumer that stands still says so, itself and its partitions."""

import psycopg

from support.databases import DISK_FULL
from support.feed import Feed, Stream
from support.forked import Fleet
from support.invariants import hold_invariants
from support.pipeline import counted, is_ready
from support.polling import eventually

SOON = {"consumer.progress.STILL_SECONDS": 2.0}
"""A minute in earnest."""


def progress(fleet: Fleet) -> str:
    """Return what readiness says of a consumer's progress."""
    return str(fleet.readiness("consumer-1")[1]["checks"]["progress"])


def test_a_loop_that_hangs_is_not_ready(fleet: Fleet) -> None:
    """It cannot say so itself, so whoever asks is told; once it goes on, it is ready again."""
    fleet.limits = SOON
    stream = Stream("hangs")
    fleet.spawn("consumer-1", "after_fold:sleep=8")
    fleet.all_ready()
    Feed(fleet).publish([*stream.take(50), *stream.rest()])
    eventually(lambda: "the loop has not come round" in progress(fleet), what="saying so")
    assert not is_ready(fleet, "consumer-1")
    eventually(lambda: is_ready(fleet, "consumer-1"), what="going on")
    hold_invariants(fleet, stream.known)


def test_a_partition_that_stands_still_is_named(fleet: Fleet) -> None:
    """Its records wait and the loop turns: readiness and a metric say which, until it moves."""
    fleet.limits = SOON
    stream = Stream("still")
    fleet.spawn("consumer-1")
    fleet.all_ready()
    with psycopg.connect(fleet.variables["HOOKLINE_DATABASE_URL"], autocommit=True) as admin:
        admin.execute(DISK_FULL)
        Feed(fleet).publish([*stream.take(50), *stream.rest()])
        eventually(lambda: "partitions with lag: " in progress(fleet), what="saying so")
        eventually(lambda: stalled(fleet) > 0, what="counting them")
        admin.execute("DROP FUNCTION disk_full CASCADE")
    eventually(lambda: is_ready(fleet, "consumer-1"), what="going on")
    hold_invariants(fleet, stream.known)
    assert stalled(fleet) == 0


def stalled(fleet: Fleet) -> float:
    """Return how many partitions stand still."""
    return counted(fleet.metrics("consumer-1"), "hookline_consumer_stalled_partitions")[""]
