"""The sizing table: cores for a rate, by what each event and answer cost."""

import pytest

from ops.bench.sizing import Costs, Size, costs_of, render, size

COSTS = Costs(ingest=0.0002, consumer=0.0003, postgresql=0.0001, gatekeeper=0.00025, ceiling=12_000)


def document(**figures: dict[str, float]) -> dict[str, object]:
    """Return what the benchmark writes, of one round in which every arm has these figures."""
    samples = {
        scenario: {
            "rounds": [{arm: {"figures": figures[scenario], "counts": True} for arm in arms}]
        }
        for scenario, arms in {
            "a": ("hookline", "SQL alone"),
            "i": ("hookline",),
            "j": ("hit",),
        }.items()
        if scenario in figures
    }
    return {"samples": samples, "machine": {"cores": 2, "processor": "machine"}}


def test_a_core_is_planned_to_be_busy_half_of_its_time() -> None:
    """1,000 events of 300 µs are 0.3 of a core: one consumer; at 2,000 two of them."""
    assert size(COSTS, 1_000) == Size(1_000, 1, 1, 5, 1)
    assert size(COSTS, 2_000) == Size(2_000, 1, 2, 10, 1)
    assert size(COSTS, 1) == Size(1, 1, 1, 1, 1)


def test_connections_are_those_of_consumers_and_gatekeepers() -> None:
    """One for each consumer, sixteen for each gatekeeper, as README.md says."""
    assert Size(2_000, 1, 2, 10, 1).connections == 2 + 160


def test_costs_are_read_from_clean_runs() -> None:
    """Where one scenario is missing there is no table, and it says which are needed."""
    whole = document(
        a={"cpu": 0.0003, "postgresql": 0.0001, "rate": 12_000},
        i={"cpu": 0.0002},
        j={"cpu": 0.00025},
    )
    assert costs_of(whole) == COSTS
    assert "| 1,000 | 1 | 1 | 5 | 1 | 81 |" in render(whole)
    assert "a consumer 300 µs an event" in " ".join(render(whole).split())
    with pytest.raises(ValueError, match="clean runs of the scenarios a, i, j"):
        render(document(i={"cpu": 0.0002}))
