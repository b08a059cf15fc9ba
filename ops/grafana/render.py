"""From a description of panels to the JSON that Grafana provisions: one style for all of them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 24
STAT_HEIGHT, GRAPH_HEIGHT = 4, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = 'job=~"$job",instance=~"$instance"'
"""What OURS in a query stands for: the processes that were chosen above the panels."""


@dataclass(frozen=True)
class Query:
    """One expression and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A graph, or one number (`stat`); `red_from` colours a value that somebody should look at."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 8
    stat: bool = False
    stack: bool = False
    red_from: float | None = None
    red_below: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels side by side under a heading; without one, at the top."""

    panels: Sequence[Panel]
    title: str | None = None


@dataclass(frozen=True)
class Board:
    """One dashboard; `jobs` are the processes it is about."""

    uid: str
    title: str
    description: str
    jobs: str
    rows: Sequence[Row]


_NEW_VERSION = "hookline_build_info unless on (version) hookline_build_info offset 2m"

ANNOTATIONS = [
    (
        "Deployments",
        "purple",
        f"count by (version) ({_NEW_VERSION})",
        "version {{version}}",
    ),
    (
        "Rebalances",
        "orange",
        "sum by (change) (increase(hookline_consumer_rebalances_total[1m])) > 0",
        "partitions {{change}}",
    ),
    (
        "Replays",
        "blue",
        "max(hookline_consumer_last_replay_timestamp_seconds) > time() - 60",
        "dead letters replayed",
    ),
]


def render(board: Board) -> str:
    """Return the text of a dashboard's file."""
    document = {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["hookline"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_annotation(*annotation) for annotation in ANNOTATIONS]},
        "links": [_LINKS],
        "templating": {"list": _variables(board.jobs)},
        "panels": list(_panels(board.rows)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


_LINKS = {
    "type": "dashboards",
    "title": "hookline",
    "tags": ["hookline"],
    "asDropdown": False,
    "includeVars": False,
    "keepTime": True,
    "icon": "external link",
    "targetBlank": False,
    "tooltip": "the other dashboards, at the same time",
    "url": "",
}


def _annotation(name: str, colour: str, expr: str, title: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "titleFormat": title,
        "step": "60s",
    }


def _variables(jobs: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {"text": "Prometheus", "value": "prometheus"},
        },
        _choice("job", "Process", f'label_values(up{{job=~"{jobs}"}}, job)'),
        _choice("instance", "Instance", 'label_values(up{job=~"$job"}, instance)'),
    ]


def _choice(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Lay panels out from left to right, row under row."""
    number, top = 1, 0
    for row in rows:
        if row.title is not None:
            grid = {"x": 0, "y": top, "w": WIDTH, "h": 1}
            yield {"id": number, "type": "row", "title": row.title, "gridPos": grid, "panels": []}
            number, top = number + 1, top + 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            height = STAT_HEIGHT if panel.stat else GRAPH_HEIGHT
            grid = {"x": left, "y": top, "w": panel.width, "h": height}
            yield _panel(panel, number, grid)
            number, left = number + 1, left + panel.width
        top += height


def _panel(panel: Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": grid,
        "targets": [_target(query, chr(65 + n)) for n, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT if panel.stat else _GRAPH,
    }


def _target(query: Query, letter: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": SOURCE,
        "expr": query.expr.replace("OURS", OURS),
        "legendFormat": query.legend or "__auto",
        "range": True,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    fields: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if not panel.stat:
        fields["min"] = 0
        fields["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stack else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.red_from is not None else "off"},
        }
    return fields


def _thresholds(panel: Panel) -> dict[str, Any]:
    if panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    elif panel.red_from is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.red_from}]
    else:
        steps = [{"color": "green" if panel.stat else "text", "value": None}]
    return {"mode": "absolute", "steps": steps}


_STAT = {
    "colorMode": "value",
    "graphMode": "area",
    "justifyMode": "auto",
    "textMode": "auto",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
}
_GRAPH = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
