"""How simulated histories are sent: every event, some twice, in no order, the same each time."""

from collections import Counter
from itertools import pairwise

import pytest

from ops.simulate import Traffic
from ops.simulator.deliveries import CUSTOMERS_AT_ONCE, mix
from ops.simulator.history import World
from ops.usage import UsageError

WORLD = World("mix", 1_795_000_000)


def test_all_events_come_and_a_share_of_them_twice() -> None:
    """Nothing is left out, also where there are more customers than are mixed at a time."""
    histories = list(WORLD.histories(CUSTOMERS_AT_ONCE + 20))
    events = [event for history in histories for event in history.events]
    counted = Counter(event.id for event in mix(histories, 0.2, "mix"))
    assert counted.keys() == {event.id for event in events}
    assert set(counted.values()) == {1, 2}
    assert 0.17 < sum(n == 2 for n in counted.values()) / len(events) < 0.23


def test_order_is_shuffled_and_repeats_with_the_seed() -> None:
    """A customer's events come in no order; the same seed brings the same order."""
    histories = list(WORLD.histories(30))
    once, again, other = (list(mix(histories, 0.2, seed)) for seed in ("a", "a", "b"))
    assert once == again
    assert once != other
    late = sum(later.created < earlier.created for earlier, later in pairwise(once))
    assert late > len(once) / 3


def asked(**options: object) -> Traffic:
    """Return traffic as a person asks for it."""
    defaults = {"customers": 3, "seed": "s", "end": None, "shape": "both", "duplicates": 0.2}
    return Traffic.choose(**(defaults | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shape": "new"}, "--shape new: say old, basil, both"),
        ({"duplicates": 20.0}, "--duplicates 20.0: say a share"),
        ({"rate": 0.0}, "--rate 0.0: say how many"),
        ({"end": "yesterday"}, "--end yesterday: say a time"),
        ({"end": "2199-01-01"}, "--end 2199-01-01: lies in the future"),
    ],
)
def test_bad_options_are_a_sentence(options: dict[str, object], sentence: str) -> None:
    """What cannot be simulated is said with the option's name."""
    with pytest.raises(UsageError, match=sentence):
        asked(**options)


def test_what_was_sent_can_be_sent_again() -> None:
    """The options that are printed afterwards make the same bytes."""
    traffic = asked(end="2026-11-24T10:00:00Z", shape="basil", duplicates=0.5)
    repeat = traffic.repeat()
    assert repeat == (
        "--customers 3 --seed s --end 2026-11-24T10:00:00Z --shape basil --duplicates 0.5"
    )
    words = repeat.split()
    found = dict(zip(words[::2], words[1::2], strict=True))
    again = asked(
        customers=int(found["--customers"]),
        seed=found["--seed"],
        end=found["--end"],
        shape=found["--shape"],
        duplicates=float(found["--duplicates"]),
    )
    assert list(again.deliveries()) == list(traffic.deliveries())


def test_no_seed_is_a_new_one() -> None:
    """Two runs without a seed never meet in one database."""
    assert asked(seed=None).world.tag != asked(seed=None).world.tag
