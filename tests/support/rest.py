"""What must hold once a fault is over and a deployment has come to rest."""

from collections.abc import Sequence

import redis

from ops.simulator.history import History
from schemas.redis_keys import LOCK_SECONDS, lock_key
from support.invariants import catch_up, hold_invariants
from support.pipeline import Pipeline
from support.polling import eventually
from support.proving import PROVING

FOR_EVER = -1


def wait_for_rest(pipeline: Pipeline, seconds: float = 90) -> None:
    """Wait until all records are applied, no cache entry waits to be dropped, no lock stays."""
    catch_up(pipeline, seconds)
    waiting = "SELECT count(*) FROM cache_invalidations"
    eventually(lambda: pipeline.query(waiting) == [(0,)], seconds, "the sweep")
    with redis.Redis.from_url(pipeline.variables["HOOKLINE_REDIS_URL"]) as client:
        # A lock whose release Redis did not hear is gone after its time.
        times = [client.pttl(key) for key in client.keys(lock_key("*"))]
        assert all(time != FOR_EVER and time <= LOCK_SECONDS * 1000 for time in times)
        if PROVING:
            eventually(lambda: not client.keys(lock_key("*")), 40, "the end of all locks")


def check_at_rest(pipeline: Pipeline, known: Sequence[History], seconds: float = 90) -> None:
    """Demand that after a fault nothing is lost, doubled or wrong, and nothing is left over."""
    wait_for_rest(pipeline, seconds)
    hold_invariants(pipeline, list(known))
