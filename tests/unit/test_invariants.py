"""The pure parts of the checks: which records to read, what counts as a leak, what a line says."""

from pathlib import Path

import pytest

from ops.invariants.checker import IDS, INVARIANTS, Result, summarize
from ops.invariants.event_log import NEAR, Bounds, Place, stretches
from ops.invariants.events import choose_ranges
from ops.invariants.outputs import SHORTEST, check_outputs
from ops.invariants.subject import Finding, NotChecked, Subject
from support.billing import GRACE, PLANS


def subject_with(**given: object) -> Subject:
    """Return a subject without any server."""
    return Subject(engine=None, plans=PLANS, grace=GRACE, group="g", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bounds", "positions", "most", "expected"),
    [
        ({0: Bounds(0, 100)}, {0: 90}, None, {0: (0, 90)}),
        ({0: Bounds(0, 100)}, {0: 90}, 10, {0: (80, 90)}),
        ({0: Bounds(85, 100)}, {0: 90}, 10, {0: (85, 90)}),
        ({0: Bounds(0, 100), 1: Bounds(0, 100)}, {0: 4, 1: 50}, 10, {0: (0, 4), 1: (44, 50)}),
        ({0: Bounds(0, 100)}, {}, 10, {}),
        ({0: Bounds(0, 100)}, {0: 200}, None, {0: (0, 100)}),
        ({0: Bounds(50, 100)}, {0: 40}, 10, {0: (50, 50)}),
    ],
)
def test_the_last_applied_records_are_read(
    bounds: dict[int, Bounds],
    positions: dict[int, int],
    most: int | None,
    expected: dict[int, tuple[int, int]],
) -> None:
    """What Kafka holds below the position, the newest, no more than asked for in all."""
    assert choose_ranges(bounds, positions, most) == expected


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], []),
        ([(3, 7)], [(3, 7, 8)]),
        ([(0, 5), (0, 6), (0, 9)], [(0, 5, 10)]),
        ([(0, 5), (1, 6)], [(0, 5, 6), (1, 6, 7)]),
        ([(0, 0), (0, NEAR + 1)], [(0, 0, NEAR + 2)]),
        ([(0, 0), (0, NEAR + 2)], [(0, 0, 1), (0, NEAR + 2, NEAR + 3)]),
    ],
)
def test_near_records_are_read_in_one_piece(
    places: list[Place], expected: list[tuple[int, int, int]]
) -> None:
    """One seek for what stands close together, one for each partition and each long gap."""
    assert list(stretches(places)) == expected


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("whsec_abcdefgh12", "a signing secret of Stripe's"),
        (f"t=1,v1={'0a' * 32}", "a signature"),
        ("postgresql://me:pass@host/db", "a password in a URL"),
        ("the password is correct-horse", "a configured secret"),
        ("whsec_… postgresql://host/db v1= http://a:80/ user@host", None),
        ("postgresql://me:***@host/db", None),
        ("hookline", None),
    ],
)
def test_secrets_in_a_file_are_told_and_not_shown(
    tmp_path: Path, line: str, what: str | None
) -> None:
    """Each spelling of a secret is found with its line; what only looks like one is not."""
    file = tmp_path / "log"
    file.write_text(f"first\n{line}\n")
    secrets = ("correct-horse", "hookline")
    found = list(check_outputs(subject_with(outputs=[file], secrets=secrets)))
    assert len("hookline") < SHORTEST
    assert found == ([Finding("I11", "log, line 2", f"holds {what}")] if what else [])


def test_a_refusal_is_excused_only_where_the_caller_says_so() -> None:
    """A 5xx is a finding unless something was down."""
    answers = {200: 5, 400: 2, 500: 1, 503: 3}
    found = list(check_outputs(subject_with(statuses=answers, excused={503})))
    assert [str(one) for one in found] == [
        "I11 ingest: answered 500 1 times while nothing was down"
    ]
    with pytest.raises(NotChecked):
        next(check_outputs(subject_with()))


@pytest.mark.parametrize(
    ("states", "line"),
    [
        ({"I1": 0, "I2": 0, "I3": 0, "I10": 0}, "I1 to I3, I10 hold"),
        ({"I1": 0, "I2": 1, "I3": None}, "I1 holds; I2 is broken; I3 not checked"),
        ({"I1": 1, "I2": 1}, "I1, I2 are broken"),
    ],
)
def test_a_line_says_what_holds(states: dict[str, int | None], line: str) -> None:
    """Three or more in a row are named by the first and the last."""
    by_id = {one.id: one for one in INVARIANTS}
    assert set(by_id) == set(IDS) == {f"I{n}" for n in range(1, 12)}
    results = [
        Result(by_id[id_], [Finding(id_, "x", "y")] * (n or 0), n or 0, "", n is not None)
        for id_, n in states.items()
    ]
    assert summarize(results) == line
