"""Simulated traffic as Kafka holds it: whose outcome is known, in the shapes that scenarios need.

All of it is pure: same arguments, same events, but for the signatures' and receipts' times.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import NamedTuple

from ops.delivery import enclose
from ops.invariants.subject import Sent
from ops.simulator.deliveries import mix
from ops.simulator.history import History, World
from ops.simulator.life import Event
from ops.simulator.truth import CustomerTruth
from schemas.envelope import Headers, to_headers, to_key
from schemas.signature import sign

END = 1_795_000_000
SECRET = "whsec_bench_secret"  # noqa: S105 - of servers that live for a benchmark
EVENTS_A_CUSTOMER = 20
"""About so many there are."""


class Outgoing(NamedTuple):
    """A record to be written."""

    key: bytes | None
    body: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Traffic:
    """Deliveries in their order; `records` makes them anew each time it is called."""

    name: str
    deliveries: int
    truths: Sequence[CustomerTruth]
    accepted: dict[str, Sent]
    records: Callable[[], Iterator[Outgoing]]
    has_poison: bool = False


def uniform(events: int, seed: str) -> Traffic:
    """Return so many events or a few more, of customers of one kind, shuffled."""
    return _traffic(f"uniform-{seed}-{events}", _histories(events, seed), seed)


def zipf(events: int, seed: str) -> Traffic:
    """Return traffic whose customers have events by Zipf's law: the n-th has 1/n of the first."""
    known = _histories(events, seed)
    random = Random(f"{seed}:zipf")  # noqa: S311 - the same each time
    ranks = range(1, len(known) + 1)
    chosen = random.choices(ranks, [1 / rank for rank in ranks], k=len(known))
    return _traffic(f"zipf-{seed}-{events}", _regroup(known, chosen), seed)


def one_with_half(events: int, seed: str) -> Traffic:
    """Return traffic of which one customer has half."""
    known = _histories(events, seed)
    chosen = [0 if number % 2 else number for number in range(len(known))]
    return _traffic(f"half-{seed}-{events}", _regroup(known, chosen), seed)


def repeated(events: int, seed: str) -> Traffic:
    """Return so many deliveries, half of them repeats."""
    known = _histories(events // 2, seed)
    return _traffic(f"repeated-{seed}-{events}", known, seed, duplicates=1.0)


def poisoned(events: int, seed: str) -> Traffic:
    """Return traffic of which one record in a hundred is nothing that Stripe signed."""
    clean = uniform(events, seed)
    junk = max(events // 99, 1)
    return replace(
        clean,
        name=f"poisoned-{seed}-{events}",
        deliveries=clean.deliveries + junk,
        records=lambda: _sprinkle(clean.records(), junk),
        has_poison=True,
    )


def outgoing(event: Event) -> Outgoing:
    """Return an event as ingest would write it now."""
    envelope = enclose(event, SECRET)
    return Outgoing(to_key(envelope), event.body, to_headers(envelope))


def received_now(record: Outgoing, *, late: float = 0.0) -> Outgoing:
    """Return a record as if it had been received now, or so many seconds ago."""
    moment = datetime.now(UTC) - timedelta(seconds=late)
    stamp = moment.isoformat(timespec="microseconds").encode()
    name = "hookline_received_at"
    return record._replace(
        headers=[(key, stamp if key == name else value) for key, value in record.headers]
    )


def _histories(events: int, seed: str) -> list[History]:
    """Return whole customers with at least so many events."""
    world = World(seed, END)
    found: list[History] = []
    total = 0
    while total < events:
        found.append(world.history(len(found)))
        total += len(found[-1].events)
    return found


def _traffic(name: str, known: Sequence[History], seed: str, *, duplicates: float = 0.0) -> Traffic:
    return Traffic(
        name,
        sum(1 for _ in mix(known, duplicates, seed)),
        [history.truth for history in known],
        {
            event.id: Sent(history.truth.customer_id, datetime.fromtimestamp(event.created, UTC))
            for history in known
            for event in history.events
        },
        lambda: map(outgoing, mix(known, duplicates, seed)),
    )


def _regroup(known: Sequence[History], chosen: Iterable[int]) -> list[History]:
    """Give each history to the customer chosen for it, and make one history a customer."""
    groups: dict[int, list[History]] = {}
    for history, number in zip(known, chosen, strict=True):
        groups.setdefault(number, []).append(history)
    return [_as_one(parts) for parts in groups.values()]


def _as_one(parts: Sequence[History]) -> History:
    """Return one customer that has the subscriptions of all of these, and their events."""
    name = parts[0].truth.customer_id.removeprefix("cus_sim")
    return History(
        tuple(event for part in parts for event in _rename(part, name)),
        CustomerTruth(
            f"cus_sim{name}",
            next((f"user_{name}" for part in parts if part.truth.reference), None),
            tuple(s for part in parts for s in part.truth.subscriptions),
        ),
    )


def _rename(part: History, name: str) -> Iterator[Event]:
    own = part.truth.customer_id.removeprefix("cus_sim")
    for event in part.events:
        body = event.body
        for prefix in ("cus_sim", "user_"):
            body = body.replace(f"{prefix}{own}".encode(), f"{prefix}{name}".encode())
        yield replace(event, body=body)


def _sprinkle(records: Iterator[Outgoing], junk: int) -> Iterator[Outgoing]:
    """Put junk evenly between records: not signed, signed by a stranger, no JSON, nothing."""
    waiting = iter(_junk(junk))
    while part := list(islice(records, 99)):
        yield from part
        yield from islice(waiting, 1)
    yield from waiting


def _junk(count: int) -> Iterator[Outgoing]:
    for number in range(count):
        body = (b'{"id":"evt_forged"}', b"[]", b"\xff\xfe", b"")[number % 4]
        signature = sign(body, "whsec_of_a_stranger", END).encode()
        headers = [("hookline_signature", signature)] if number % 2 else []
        yield Outgoing(b"cus_junk%d" % number, body, headers)
