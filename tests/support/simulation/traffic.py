"""What flows through a simulated run: signed events of known customers, and what strangers send."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ops.simulator.history import History, World
from ops.simulator.life import Event
from schemas.signature import sign
from support.load import END
from support.pipeline import SECRET

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One record; `event` None: nobody vouches for it."""

    key: bytes
    body: bytes | None
    headers: Headers = ()
    event: str | None = None


def customers(random: Random, count: int) -> list[History]:
    """Draw customers whose lives are short enough for a run of a few hundred records."""
    world = World(str(random.random()), END)
    return list(world.histories(count))


def deliveries(random: Random, known: list[History]) -> Iterator[Delivery]:
    """Yield every event at least once, in no order, among what strangers send."""
    events = [(history.truth.customer_id, e) for history in known for e in history.events]
    events += [entry for entry in events if random.random() < 0.2]
    random.shuffle(events)
    for customer, event in events:
        yield signed(customer, event)
        if random.random() < 0.03:
            yield random.choice((_forged, _tombstone, _garbled))(customer, event)


def signed(customer: str, event: Event) -> Delivery:
    """Return an event as ingest writes it."""
    return Delivery(customer.encode(), event.body, _signature(event.body, SECRET), event.id)


def _forged(customer: str, event: Event) -> Delivery:
    return Delivery(customer.encode(), event.body, _signature(event.body, "whsec_other"))


def _tombstone(customer: str, _event: Event) -> Delivery:
    return Delivery(customer.encode(), None)


def _garbled(customer: str, event: Event) -> Delivery:
    body = event.body[: len(event.body) // 2]
    return Delivery(customer.encode(), body, _signature(body, SECRET))


def _signature(body: bytes, secret: str) -> Headers:
    return (("hookline_signature", sign(body, secret, END).encode()),)
