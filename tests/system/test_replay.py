"""A request that somebody recorded and plays again within the time its signature holds."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx

from schemas.signature import sign
from support.invariants import catch_up
from support.pipeline import SECRET, Pipeline, recorded
from support.stripe import body, event, subscription

TIMES = 1_000


def test_a_request_played_again_changes_nothing(pipeline: Pipeline) -> None:
    """The same bytes and signature a thousand times: one row, one effect, the same state."""
    pipeline.start("ingest", "consumer-1")
    content = body(event("customer.subscription.created", subscription(), id="evt_again"))
    headers = {"stripe-signature": sign(content, SECRET, int(time.time()))}
    url = pipeline.variables["HOOKLINE_INGEST_URL"] + "/webhooks/stripe"

    def play(client: httpx.Client) -> int:
        return client.post(url, content=content, headers=headers, timeout=30).status_code

    with httpx.Client() as client, ThreadPoolExecutor(8) as pool:
        assert play(client) == httpx.codes.OK
        catch_up(pipeline, 60)
        before = state(pipeline)
        assert set(pool.map(play, [client] * (TIMES - 1))) == {httpx.codes.OK}
    catch_up(pipeline, 60)
    assert recorded(pipeline) == 1
    assert state(pipeline) == before


def state(pipeline: Pipeline) -> list[object]:
    """Return everything that an event can change."""
    tables = ("subscriptions", "customers", "billing_audit", "dead_letters")
    rows: list[object] = []
    for table in tables:
        rows += pipeline.query(f"SELECT * FROM {table}")  # noqa: S608 - names of our own
    return rows
