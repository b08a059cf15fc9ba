"""Grafana's dashboards: as generated, of one style, of metrics that exist."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from ops.grafana.boards import BOARDS
from ops.grafana.render import WIDTH, Board, render
from support.rules import KNOWN, metrics_of

FOLDER = Path(__file__).parents[2] / "ops" / "grafana" / "dashboards"
SCREEN = 20
"""Rows of Grafana's grid that a screen of 1080 lines shows below its own bars."""
UNITS = {"short", "s", "bytes", "percentunit", "reqps", "cps"}

by_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)


def read(board: Board) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return dict(json.loads((FOLDER / f"{board.uid}.json").read_text()))


def graphs(board: Board) -> list[dict[str, Any]]:
    """Return the panels that ask something."""
    return [panel for panel in read(board)["panels"] if panel["type"] != "row"]


@by_board
def test_what_is_committed_is_what_is_generated(board: Board) -> None:
    """Nobody edits the files: `python -m ops.grafana` writes them anew."""
    assert (FOLDER / f"{board.uid}.json").read_text() == render(board)


def test_there_are_four() -> None:
    """Under fixed ids, so that links last; no file of a dashboard that is no more."""
    uids = [board.uid for board in BOARDS]
    names = ("overview", "pipeline", "entitlements", "runtime")
    assert uids == [f"hookline-{name}" for name in names]
    assert {path.stem for path in FOLDER.iterdir()} == set(uids)
    assert len({board.title for board in BOARDS}) == len(BOARDS)


@by_board
def test_a_dashboard_can_be_turned_to_what_one_looks_for(board: Board) -> None:
    """By data source, process and instance; the others are a click away; nobody changes it."""
    found = read(board)
    assert [entry["name"] for entry in found["templating"]["list"]] == [
        "datasource",
        "job",
        "instance",
    ]
    assert found["editable"] is False
    assert found["tags"] == found["links"][0]["tags"] == ["hookline"]
    assert found["description"].endswith((".", "?"))
    names = [entry["name"] for entry in found["annotations"]["list"]]
    assert names == ["Deployments", "Rebalances", "Replays"]


@by_board
def test_panels_lie_beside_each_other(board: Board) -> None:
    """Within the grid, none over another."""
    panels = read(board)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] >= 0
        assert grid["x"] + grid["w"] <= WIDTH
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_the_overview_is_one_screen() -> None:
    """Nobody scrolls at night; and no row of it is half empty."""
    grids = [panel["gridPos"] for panel in read(BOARDS[0])["panels"]]
    assert max(grid["y"] + grid["h"] for grid in grids) <= SCREEN
    for top in {grid["y"] for grid in grids}:
        assert sum(grid["w"] for grid in grids if grid["y"] == top) == WIDTH


@by_board
def test_every_panel_says_what_it_shows(board: Board) -> None:
    """A title of its own, a sentence, a unit, and series that have names."""
    panels = graphs(board)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert re.fullmatch(r"[A-Z].*[^.]", panel["title"])
        assert re.fullmatch(r"[A-Z0-9].*\.", panel["description"])
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]
        named = [target["legendFormat"] != "__auto" for target in panel["targets"]]
        assert all(named) or panel["type"] == "stat"


@by_board
def test_every_query_is_well_made(board: Board) -> None:
    """Rates fit the scrape interval, the data source is the chosen one, metrics are known."""
    for panel in graphs(board):
        for target in panel["targets"]:
            expr = target["expr"]
            assert target["datasource"]["uid"] == "${datasource}"
            ranges = re.findall(r"\[(.*?)\]", expr)
            assert set(ranges) <= {"$__rate_interval"}
            assert len(re.findall(r"\b(?:rate|increase)\(", expr)) == len(ranges)
            assert metrics_of(expr) <= KNOWN, expr
            of_processes = [name for name in metrics_of(expr) if ":" not in name]
            chosen = 'job=~"$job",instance=~"$instance"' in expr
            assert chosen or not of_processes or expr.startswith(("max(", "sum(max")), expr
    for annotation in read(board)["annotations"]["list"]:
        assert metrics_of(annotation["expr"]) <= KNOWN
