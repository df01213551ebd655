"""Writes the Grafana dashboard from the table of its panels, panels.toml.

`make dashboard` writes dashboard.json, which Grafana imports.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DASHBOARD = FOLDER / "dashboard.json"
SCHEMA_VERSION = 41  # of Grafana 12; older ones from 10 on read it too
COLUMNS, USUAL_WIDTH = 24, 8
HEIGHTS = {"stat": 4, "table": 6, "timeseries": 8}  # by kind
SELECTED = 'job=~"$job",instance=~"$instance"'
QUANTILES = (0.5, 0.95, 0.99)
ONCE = (0.0,)  # for a query without quantiles
RUN_BOOKS = "docs/guide/operations.md"
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
INSTANCES = "healthomics_gateway_build_info"  # has one series for each instance
WORDS = {  # the texts and colors of 0 and 1
    "good": (("no", "red"), ("yes", "green")),
    "bad": (("no", "green"), ("yes", "orange")),
}

Json = dict[str, Any]


def queries_of(panel: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the expressions of a panel with their legends, one for each quantile."""
    return [
        (
            expression.replace("$selected", SELECTED).replace("$q", f"{q:g}"),
            legend.replace("$q", f"{q * 100:g}"),
        )
        for expression, legend in panel["queries"]
        for q in (QUANTILES if "$q" in expression else ONCE)
    ]


def dashboard() -> Json:
    """Return the dashboard as Grafana's JSON."""
    rows = tomllib.loads((FOLDER / "panels.toml").read_text())["rows"]
    return {
        "uid": "healthomics-gateway",
        "title": "HealthOmics gateway",
        "tags": ["healthomics", "grpc"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # a crosshair in all panels
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": list(_numbered(_placed(rows))),
    }


def _variables() -> list[Json]:
    return [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
        },
        _variable("job", f"label_values({INSTANCES}, job)"),
        _variable("instance", f'label_values({INSTANCES}{{job=~"$job"}}, instance)'),
    ]


def _variable(name: str, query: str) -> Json:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATA_SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the period changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed(rows: list[Json]) -> Iterator[Json]:
    """Yield rows and panels from left to right, with their places."""
    y = 0
    for row in rows:
        yield {
            "type": "row",
            "title": row["title"],
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }
        y, x, highest = y + 1, 0, 0
        for panel in row["panels"]:
            made = _panel(panel)
            width, height = _size(panel)
            if x + width > COLUMNS:
                y, x, highest = y + highest, 0, 0
            made["gridPos"] = {"x": x, "y": y, "w": width, "h": height}
            x, highest = x + width, max(highest, height)
            yield made
        y += highest


def _size(panel: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height; a table or a number beside a graph is as high as it."""
    width = panel.get("width", USUAL_WIDTH)
    kind = panel.get("kind", "timeseries")
    is_beside_graph = kind != "timeseries" and width not in (3, COLUMNS)
    return width, HEIGHTS["timeseries" if is_beside_graph else kind]


def _numbered(panels: Iterator[Json]) -> Iterator[Json]:
    for number, panel in enumerate(panels, 1):
        yield {"id": number, **panel}


def _panel(panel: Mapping[str, Any]) -> Json:
    kind = panel.get("kind", "timeseries")
    run_book = panel.get("run_book")
    about = panel.get("about", "")
    if run_book:
        about = f"{about} Run book: {RUN_BOOKS}#{run_book}".strip()
    return {
        "type": kind,
        "title": panel["title"],
        "description": about,
        "datasource": DATA_SOURCE,
        "targets": [
            _target(chr(ord("A") + at), kind, *query)
            for at, query in enumerate(queries_of(panel))
        ],
        "fieldConfig": {"defaults": _field(panel, kind), "overrides": []},
        "options": _options(kind),
    }


def _target(letter: str, kind: str, expression: str, legend: str) -> Json:
    is_graph = kind == "timeseries"
    return {
        "refId": letter,
        "datasource": DATA_SOURCE,
        "expr": expression,
        "legendFormat": legend or "__auto",
        "range": is_graph,
        "instant": not is_graph,
        "format": "table" if kind == "table" else "time_series",
    }


def _field(panel: Mapping[str, Any], kind: str) -> Json:
    steps = panel.get("steps", [[0.0, "green" if kind != "stat" else "text"]])
    field: Json = {
        "unit": panel.get("unit", "short"),
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [
                {
                    "color": color,
                    "value": value if at else None,
                }  # the first is the base
                for at, (value, color) in enumerate(steps)
            ],
        },
        "mappings": [],
    }
    if kind == "timeseries":
        is_stacked = panel.get("is_stacked", False)
        field["custom"] = {
            "axisSoftMin": 0,
            "fillOpacity": 30 if is_stacked else 0,
            "stacking": {"group": "A", "mode": "normal" if is_stacked else "none"},
        }
    if "words" in panel:
        texts = {
            str(value): {"text": text, "color": color, "index": value}
            for value, (text, color) in enumerate(WORDS[panel["words"]])
        }
        field["mappings"] = [{"type": "value", "options": texts}]
    return field


def _options(kind: str) -> Json:
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "stat":
        calculation = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": calculation, "textMode": "auto"}
    return {"showHeader": True}


def text() -> str:
    """Return the dashboard as the text of its file."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
