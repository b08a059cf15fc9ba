"""HOOKLINE_FAILPOINT: what it takes, and that it acts on the turn it names."""

import time

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from consumer.failpoints import PLACES, Failpoints, Reach, arm, pass_by
from schemas.settings import SettingsError


def armed(text: str | None) -> Reach:
    """Arm without ever connecting."""
    return arm(text, create_engine("postgresql+psycopg://", poolclass=NullPool))


@pytest.mark.parametrize("text", [None, ""])
def test_unset_costs_nothing(text: str | None) -> None:
    """Without a failpoint each place calls a function that does nothing."""
    assert armed(text) is pass_by


@pytest.mark.parametrize("text", ["after_poll", "nowhere:kill", "after_poll:explode", "x:kill@y"])
def test_a_misspelt_one_is_one_sentence(text: str) -> None:
    """It names the entry and what could stand there."""
    with pytest.raises(SettingsError) as caught:
        armed(text)
    assert text in caught.value.problems[0]
    assert "after_offset_commit" in caught.value.problems[0]


def test_every_place_can_be_named() -> None:
    """One entry a place, in one setting."""
    text = ", ".join(f"{place}:sleep=0@{turn}" for turn, place in enumerate(PLACES, 1))
    reach = armed(text)
    assert isinstance(getattr(reach, "__self__", None), Failpoints)


@pytest.mark.parametrize(
    ("turn", "slow"),
    [("", [True, False, False]), ("@2", [False, True, False]), ("@*", [True, True, True])],
)
def test_it_acts_on_its_turn(turn: str, slow: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time, the time that is named, or every time."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    reach = armed(f"after_fold:sleep=0.5{turn}")
    seen = []
    for _ in range(3):
        before = len(slept)
        reach("after_fold")
        reach("after_lock")
        seen.append(len(slept) > before)
    assert seen == slow
    assert set(slept) == {0.5}
