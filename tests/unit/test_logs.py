"""Log lines: one JSON object each, readable on a terminal, never broken by what they hold."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ops.logs import configure


class Screen(io.StringIO):
    """A terminal, as far as a log can tell."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_collector_gets_an_object_a_line() -> None:
    """Ours and a library's alike; what is below the level is not there."""
    stream = io.StringIO()
    configure("info", "ingest", stream)
    structlog.get_logger().info("refused", reason="too_old", seconds=0.25)
    structlog.get_logger().debug("accepted")
    logging.getLogger("kafka").warning("no broker")
    ours, library = map(json.loads, stream.getvalue().splitlines())
    assert (ours["event"], ours["reason"], ours["process"]) == ("refused", "too_old", "ingest")
    assert {"time", "level", "pid"} <= ours.keys()
    assert (library["event"], library["level"]) == ("no broker", "warning")


def test_a_person_gets_text() -> None:
    """On a terminal a line is made for reading, with the same facts."""
    stream = Screen()
    configure("info", "ingest", stream)
    structlog.get_logger().info("refused", reason="too_old")
    (line,) = stream.getvalue().splitlines()
    assert "refused" in line
    assert "too_old" in line
    assert not line.startswith("{")


def test_no_line_is_lost_for_what_it_holds() -> None:
    """Half a surrogate pair, which JSON can spell and UTF-8 cannot, is written escaped."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    configure("info", "ingest", stream)
    structlog.get_logger().info("ignored", event_id="\ud800")
    stream.flush()
    assert json.loads(raw.getvalue())["event_id"] == "\ud800"
