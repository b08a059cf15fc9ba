"""Reading event files and preparing them to be sent."""

import json
from pathlib import Path

import pytest

from ops.delivery import Delivery
from ops.send import prepare, read_events, send_paths
from ops.usage import UsageError
from support.stripe import event

GOOD = event("invoice.paid", {"object": "invoice"}, id="evt_1", livemode=True)

NOT_EVENTS = {
    "list.json": "[]",
    "data_only.json": json.dumps({"object": {}}),
    "no_type.json": json.dumps({"id": "evt_1"}),
    "number_id.json": json.dumps({"id": 1, "type": "x"}),
    "broken.json": "{",
    "binary.json": "\udcff",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a folder with one event below it, and files that are none."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "good.json").write_text(json.dumps(GOOD))
    (tmp_path / "notes.txt").write_text("not looked at in a folder")
    for name, text in NOT_EVENTS.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return tmp_path


def test_events_are_found_and_the_rest_is_named(folder: Path) -> None:
    """Folders are read to the bottom; each file that is no event is told with why."""
    events, skipped = read_events([folder])
    assert [found.id for found in events] == ["evt_1"]
    assert {path.name for path in skipped} == set(NOT_EVENTS)
    assert all(skipped.values())


def test_a_missing_path_is_a_sentence(folder: Path) -> None:
    """A typing error names the path."""
    with pytest.raises(UsageError, match=r"there is no file or folder .*nowhere"):
        read_events([folder / "nowhere"])


def test_fresh_ids_are_unique_and_leave_the_rest(folder: Path) -> None:
    """Each copy gets an id of its own; nothing else of the event changes."""
    (found,), _ = read_events([folder / "deep"])
    copies = [prepare(found, fresh_ids=True, mode=None) for _ in range(100)]
    assert len({copy.id for copy in copies}) == 100
    assert all(copy.document | {"id": "evt_1"} == GOOD for copy in copies)
    assert found.document == GOOD


@pytest.mark.parametrize(("mode", "live"), [("test", False), ("live", True), (None, True)])
def test_mode_is_rewritten_as_asked(folder: Path, mode: str | None, *, live: bool) -> None:
    """A captured live event can be sent to a test deployment."""
    (found,), _ = read_events([folder / "deep"])
    assert prepare(found, fresh_ids=False, mode=mode).document["livemode"] is live


@pytest.mark.parametrize(
    ("mode", "names", "sentence"),
    [("prod", ["deep"], "--mode prod"), (None, ["list.json"], "there is no event")],
)
def test_what_cannot_be_sent_is_a_sentence(
    folder: Path, mode: str | None, names: list[str], sentence: str
) -> None:
    """Bad usage is said before anything is sent."""
    with pytest.raises(UsageError, match=sentence):
        send_paths([folder / name for name in names], fresh_ids=False, mode=mode)


@pytest.mark.parametrize(
    ("answer", "summary"),
    [
        ({"status": "accepted", "event": "evt_1"}, "accepted"),
        ({"status": "ignored", "reason": "other_mode"}, "ignored: other_mode"),
        ({"error": "unavailable"}, "unavailable"),
        ({}, ""),
    ],
)
def test_an_answer_in_a_word(answer: dict[str, str], summary: str) -> None:
    """The table counts answers by what they say, not by event."""
    assert Delivery("evt_1", 200, answer).summary == summary
