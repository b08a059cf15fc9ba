"""How histories reach a receiver: in no order, and some events twice; pure."""

from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from ops.simulator.history import History
from ops.simulator.life import Event

CUSTOMERS_AT_ONCE = 250
"""Whose events are mixed with each other and held in memory together, 20 MB of them."""


def mix(histories: Iterable[History], duplicates: float, seed: str) -> Iterator[Event]:
    """Yield all events in a random order, this share of them a second time somewhere.

    The same seed gives the same order. Holds the events of 250 customers at a time.
    """
    random = Random(f"{seed}:deliveries")  # noqa: S311 - the same order for the same seed
    waiting = iter(histories)
    while group := list(islice(waiting, CUSTOMERS_AT_ONCE)):
        events = [event for history in group for event in history.events]
        events += [event for event in events if random.random() < duplicates]
        random.shuffle(events)
        yield from events
