"""The protocol of the cache in every order of turns: ours leaves nothing old behind, others do."""

import pytest

from support.proving import examples
from support.turnwise import Protocol, count_stale_rests, leasing_reader, storing_reader

PROTOCOLS = {
    "delete after commit": Protocol(storing_reader("store"), "drop", certain=False),
    "blind write-through": Protocol(storing_reader("store"), "store", certain=False),
    "compare and set": Protocol(storing_reader("store if newer"), "store if newer", certain=False),
    "compare and set, certain": Protocol(
        storing_reader("store if newer"), "store if newer", certain=True
    ),
    "lease": Protocol(leasing_reader, "drop", certain=False),
    "lease, certain": Protocol(leasing_reader, "drop", certain=True),
    "ours": Protocol(leasing_reader, "drop", certain=True, by_generation=True),
}

READERS = examples(3, 2)

FAULTS = ((), ("flush",), ("crash",), ("flush", "crash"), ("fail-over",))

IS_STALE = {
    "delete after commit": (True, True, True, True, True),
    "blind write-through": (True, True, True, True, True),
    "compare and set": (False, True, True, True, True),
    "compare and set, certain": (False, True, False, True, True),
    "lease": (False, False, True, True, True),
    "lease, certain": (False, False, False, False, True),
    "ours": (False, False, False, False, False),
}
"""Whether an old version can be left behind: without a fault, and with each kind."""

CASES = [
    (name, faults, stale)
    for name, row in IS_STALE.items()
    for faults, stale in zip(FAULTS, row, strict=True)
]


@pytest.mark.parametrize(
    ("name", "faults", "stale"),
    CASES,
    ids=[f"{name}: {' and '.join(faults) or 'no fault'}" for name, faults, _ in CASES],
)
def test_what_stays_in_the_cache(name: str, faults: tuple[str, ...], *, stale: bool) -> None:
    """Readers and two writers in every order: only our protocol never keeps an old version."""
    found = count_stale_rests(PROTOCOLS[name], frozenset(faults), READERS)
    assert (found > 0) is stale, f"{found} resting states keep an old version"
