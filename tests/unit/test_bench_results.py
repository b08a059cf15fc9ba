"""What was measured as a table: every ratio with its bar, and whether it reached it."""

from typing import Any

from ops.bench.results import render


def measured(**fields: Any) -> dict[str, Any]:
    """Return a ratio as the benchmark writes it."""
    return {
        "id": "a",
        "says": "ours / theirs",
        "ratio": 0.25,
        "rounds": [0.2, 0.25, 0.5],
        "bar": 0.3,
        "lower_is_better": False,
        "meets_bar": False,
    } | fields


def test_every_ratio_stands_with_its_bar_and_verdict() -> None:
    """One that misses its bar says so; one without a bar, or a clean run, has no verdict."""
    lower: dict[str, Any] = {
        "id": "k",
        "bar": 4,
        "lower_is_better": True,
        "meets_bar": True,
        "ratio": 3.0,
    }
    none: dict[str, Any] = {"id": "d", "bar": None, "meets_bar": None}
    unclean: dict[str, Any] = {"id": "g", "ratio": None, "rounds": [], "meets_bar": None}
    ratios = [measured(), measured(**lower), measured(**none), measured(**unclean)]
    machine = {"cores": 2, "processor": "machine"}
    lines = render({"scenarios": ratios, "machine": machine}).splitlines()
    assert lines[2:6] == [
        "| `a` | ours / theirs | at least 0.3 | 0.25 (0.20 to 0.50) | **missed** |",
        "| `k` | ours / theirs | at most 4 | 3.00 (0.20 to 0.50) | reached |",
        "| `d` | ours / theirs |  | 0.25 (0.20 to 0.50) |  |",
        "| `g` | ours / theirs | at least 0.3 | no clean run |  |",
    ]
    assert "on 2 cores (machine)" in " ".join(lines[7:])
