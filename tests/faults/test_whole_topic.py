"""Everything again from the beginning: into a full database, and into an empty one."""

import uuid
from dataclasses import replace

from support.databases import database
from support.feed import Feed, Stream
from support.forked import Fleet
from support.invariants import hold_invariants
from support.offsets import start_again_from_zero
from support.proving import Proof, examples
from support.servers import Servers

EVENTS = examples(20_000, 1_000)

OWN_TIMES = {
    "subscriptions": ("version", "updated_at"),
    "customers": ("version", "updated_at"),
    "webhook_events": ("received_at", "processed_at", "outcome", "reason"),
    "customer_entitlements": (),
}
"""What another run may leave otherwise: its own times, and what it found changed by each batch."""


def test_31_replay_of_the_whole_topic(
    fleet: Fleet, proof: Proof, servers: Servers, template: str
) -> None:
    """The topic read once more leaves the same rows, whether they stand there already or not."""
    feed, stream = Feed(fleet), Stream("replay")
    events = list(stream.take(EVENTS)) + list(stream.rest())
    feed.publish(events)
    feed.publish(proof.random.sample(events, len(events) // 3))
    run(fleet, stream)
    whole = dump(fleet, {})
    start_again_from_zero(fleet)
    run(fleet, stream)
    assert dump(fleet, {}) == whole
    comparable = dump(fleet, OWN_TIMES)
    with database(servers, f"empty_{uuid.uuid4().hex[:8]}", template) as url:
        own = {"HOOKLINE_DATABASE_URL": url, "HOOKLINE_KAFKA_GROUP": uuid.uuid4().hex}
        empty = replace(fleet, variables={**fleet.variables, **own}, members={})
        run(empty, stream)
        assert dump(empty, OWN_TIMES) == comparable
    proof.count(events=stream.taken, records_read_again=2 * (len(events) + len(events) // 3))


def run(fleet: Fleet, stream: Stream) -> None:
    """Apply the topic with two consumers, and end them."""
    fleet.spawn("consumer-1")
    fleet.spawn("consumer-2")
    hold_invariants(fleet, stream.known)
    for name in ("consumer-1", "consumer-2"):
        fleet.forked(name).stop()


def dump(fleet: Fleet, dropped: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Return every row that stands of customers, without these columns; the trail if all count."""
    found = {}
    for relation in OWN_TIMES:
        minus = "".join(f" - '{column}'" for column in dropped.get(relation, ()))
        rows = fleet.query(f"SELECT CAST(to_jsonb(r){minus} AS text) FROM {relation} r")  # noqa: S608
        found[relation] = sorted(row for (row,) in rows)
    if not dropped:
        rows = fleet.query("SELECT CAST(to_jsonb(r) AS text) FROM billing_audit r")
        found["billing_audit"] = sorted(row for (row,) in rows)
    return found
