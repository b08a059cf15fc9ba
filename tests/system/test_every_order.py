"""One history, many orders, one state: through hookline's own processes on real servers."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from consumer.repair import Repair
from consumer.storage.engine import make_engine
from ops.delivery import Delivery, deliver, enclose
from ops.simulator.deliveries import mix
from ops.simulator.history import History
from ops.simulator.life import Event, Pace
from property.world import world
from schemas.envelope import to_headers, to_key
from schemas.plans import load_plans
from schemas.settings import DatabaseSettings
from support.billing import GRACE
from support.pipeline import SECRET, Pipeline
from support.polling import eventually
from support.proving import SEED, Proof, examples

HISTORIES = examples(200, 20)
ORDERS = examples(20, 6)
OVER_HTTP = examples(2, 6)
"""Orders that Stripe's way brings, through ingest; the others are written as ingest writes them."""

DUPLICATES = 0.3

DIFFERS = {
    "subscriptions": {
        "version": "counts how often the row changed, and one order changes it more often",
        "updated_at": "is hookline's own time",
    },
    "customers": {
        "version": "counts how often the answer changed",
        "updated_at": "is hookline's own time",
    },
    "webhook_events": {
        "received_at": "is when this delivery came",
        "processed_at": "is hookline's own time",
        "outcome": "says what an event changed when it came: of two that say the same, the first",
        "reason": "says why it changed nothing when it came",
        "partition": "is another for another customer",
        "kafka_offset": "is where this delivery stands",
        "payload": "holds the ids, by which the orders are told apart here",
    },
    "customer_entitlements": {},
}
"""All that one order may leave otherwise than another, and why; of these relations nothing else.

The audit trail tells how a state came to be, so it is another one for each order. Positions and
invalidations are about deliveries, not about customers.
"""


@dataclass(frozen=True)
class Label:
    """One order's own names: the histories' ids, of the same length and in the same order.

    Ties are settled by the order of ids, so what stands before the part that tells two ids of a
    history apart may change, and nothing else.
    """

    tag: str
    order: int

    @property
    def name(self) -> str:
        """What stands for the world's tag in this order's ids; `o` is no hexadecimal digit."""
        return f"o{self.order:02d}{self.tag[3:]}"

    def put_on(self, event: Event) -> Event:
        """Return an event as if it were of a customer that only this order has."""
        body = event.body.replace(self.tag.encode(), self.name.encode())
        renamed = event.id.replace("evt_", f"evt_{self.name}")
        return replace(event, id=renamed, body=body.replace(event.id.encode(), renamed.encode()))

    def take_off(self, text: str) -> str:
        """Return text of the database with the names that all orders share."""
        return text.replace(f"evt_{self.name}", "evt_").replace(self.name, self.tag)


def deliveries(histories: list[History], label: Label) -> Iterator[Event]:
    """Yield the histories once more: shuffled with each other, a share of the events twice."""
    renamed = (
        replace(history, events=tuple(map(label.put_on, history.events))) for history in histories
    )
    return mix(renamed, DUPLICATES, f"{SEED}:{label.order}")


def send(pipeline: Pipeline, events: Iterable[Event]) -> int:
    """Send events to ingest as Stripe does; returns how many deliveries it accepted."""
    answers: list[Delivery] = []
    url = pipeline.variables["HOOKLINE_INGEST_URL"]
    asyncio.run(deliver(events, url, SECRET, answers.append, patience=60))
    assert {answer.answer.get("status") for answer in answers} == {"accepted"}
    return len(answers)


def publish(pipeline: Pipeline, events: Iterable[Event]) -> int:
    """Write events to Kafka as ingest does, without HTTP; returns how many are acknowledged."""
    acknowledged: list[object] = []
    producer = Producer(
        {"bootstrap.servers": pipeline.variables["HOOKLINE_KAFKA_BOOTSTRAP"], "linger.ms": 5}
    )
    for event in events:
        envelope = enclose(event, SECRET)
        producer.produce(
            pipeline.variables["HOOKLINE_KAFKA_TOPIC"],
            value=event.body,
            key=to_key(envelope),
            headers=list(to_headers(envelope)),
            on_delivery=lambda error, _: acknowledged.append(error),
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    assert set(acknowledged) == {None}
    return len(acknowledged)


def dump(pipeline: Pipeline, labels: list[Label]) -> dict[str, dict[int, list[str]]]:
    """Return what stands of each customer, by its shared name, then by order; one text a row."""
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    by_name = {label.name: label for label in labels}
    for relation, columns in DIFFERS.items():
        dropped = "".join(f" - '{column}'" for column in columns)
        for customer, row in pipeline.query(
            f"SELECT customer_id, CAST(to_jsonb(r){dropped} AS text) FROM {relation} r"  # noqa: S608
        ):
            label = by_name[customer.removeprefix("cus_sim")[:10]]
            shared = label.take_off(customer)
            found[shared][label.order].append(f"{relation} {label.take_off(row)}")
    for orders in found.values():
        for rows in orders.values():
            rows.sort()
    return found


def differences(pipeline: Pipeline) -> list[str]:
    """Fold everything recorded once more, and return where the rows say something else."""
    url = SecretStr(pipeline.variables["HOOKLINE_DATABASE_URL"])
    engine = make_engine(DatabaseSettings(database_url=url), "test")
    plans = load_plans(Path(pipeline.variables["HOOKLINE_PLANS_FILE"]))
    found = [
        f"{one.customer_id}: {one.differences or one.unreadable}"
        for one in Repair(engine, plans, GRACE).examine_all()
        if not one.is_sound
    ]
    engine.dispose()
    return found


@pytest.mark.timeout(1_800)
def test_every_order_leaves_the_same_state(pipeline: Pipeline, proof: Proof) -> None:
    """Every order of a history leaves the same bytes behind Kafka and two consumers."""
    simulated = world("orders", Pace(loops=True))
    histories = list(simulated.histories(HISTORIES))
    labels = [Label(simulated.tag, order) for order in range(ORDERS)]
    pipeline.start("ingest", "consumer-1", "consumer-2")
    sent = 0
    for label in proof.track(labels, ORDERS):
        carry = send if label.order < OVER_HTTP else publish
        sent += carry(pipeline, deliveries(histories, label))
        eventually(lambda: applied(pipeline) >= sent, 300, "applying every delivery")  # noqa: B023
    assert pipeline.query("SELECT count(*) FROM dead_letters") == [(0,)]

    found = dump(pipeline, labels)
    assert found.keys() == {history.truth.customer_id for history in histories}
    for history in histories:
        orders = found[history.truth.customer_id]
        assert len(orders) == ORDERS
        check_whole(history, orders[0])
        for order, rows in orders.items():
            assert rows == orders[0], (history.truth.customer_id, order)
        proof.count(histories=1, orders=len(orders))
    proof.count(deliveries=sent)
    assert differences(pipeline) == []


def applied(pipeline: Pipeline) -> int:
    """Return how many records the consumers have behind them."""
    return int(pipeline.query("SELECT coalesce(sum(next_offset), 0) FROM consumer_positions")[0][0])


def check_whole(history: History, rows: list[str]) -> None:
    """See that a dump holds all that is known of a customer: nothing equals nothing easily."""
    kinds = [row.partition(" ")[0] for row in rows]
    assert kinds.count("webhook_events") == len(history.events)
    assert kinds.count("subscriptions") == len(history.truth.subscriptions)
    assert kinds.count("customers") == kinds.count("customer_entitlements") == 1
