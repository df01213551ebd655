"""The dashboard and the alerts name metrics that exist, and promtool accepts them."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.tools import DEPLOY, ROOT
from testkit.tools import require

RULES = DEPLOY / "prometheus" / "rules.yaml"
TESTS = sorted(RULES.parent.glob("*_test.yaml"))
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
METRICS = (ROOT / "docs" / "guide" / "metrics.md").read_text()
NAME = re.compile(r"\b(?:healthomics_gateway|grpc_server|process|python_gc)_\w+")
SUFFIXES = ("_bucket", "_sum", "_count")  # of a histogram's series
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "3h",
    "$job": ".*",
    "$instance": ".*",
}


def documented() -> set[str]:
    """Return the names in the first cells of the tables of metrics."""
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", METRICS, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z_]+\w)`", cell)}


def named(text: str) -> set[str]:
    """Return the metrics that expressions name, histograms without their suffixes."""
    found = set(NAME.findall(text))
    for name in set(found):
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                found = found - {name} | {name.removesuffix(suffix)}
    return found


def expressions() -> list[str]:
    """Return the expressions of the dashboard's panels and variables."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def promtool(*arguments: str | Path) -> str:
    """Run promtool, which must succeed."""
    program = require("promtool")
    ended = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False
    )
    output = ended.stdout + ended.stderr
    assert 0 == ended.returncode, output
    return output


def assert_valid(promql: Sequence[str], folder: Path) -> None:
    """Let Prometheus's parser read expressions, as rules in a file of this folder."""
    file = folder / "rules.yaml"
    rules = [{"record": f"number:{at}", "expr": each} for at, each in enumerate(promql)]
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))

    assert f"{len(promql)} rules found" in promtool("check", "rules", file)


def alerts() -> set[str]:
    """Return the names of the alerts."""
    return set(re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE))


def test_dashboard_is_what_its_program_writes() -> None:
    """dashboard.json is up to date: `make dashboard` writes it."""
    program: Any = runpy.run_path(str(DEPLOY / "grafana" / "dashboard.py"))

    assert program["text"]() == DASHBOARD.read_text()


def test_dashboard_shows_every_metric() -> None:
    """Each metric of the gateway has a panel, and each panel's metric exists."""
    shown = named("\n".join(expressions()))

    assert documented()
    assert documented() == shown


def test_dashboard_places_no_panel_over_another() -> None:
    """No two panels share a place, and none is wider than the page."""
    places = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_dashboard_has_valid_expressions(tmp_path: Path) -> None:
    """Prometheus's parser accepts each expression of the dashboard."""
    plain = [
        re.sub(r"\$\w+", lambda found: VARIABLES[found[0]], each)
        for each in expressions()
    ]

    assert_valid(plain, tmp_path)


def test_rules_name_metrics_that_exist() -> None:
    """Each metric of a rule or an alert is on the page of metrics."""
    assert named(RULES.read_text()) <= documented()


def test_alerts_say_what_to_do() -> None:
    """Each alert has a severity, a summary, a description and a run book."""
    parts = re.split(r"^ +- alert: ", RULES.read_text(), flags=re.MULTILINE)[1:]
    needed = ("severity: ", "summary: ", "description: ", "runbook_url: ")

    assert len(parts) == len(alerts())
    assert [] == [
        (part.split()[0], each) for part in parts for each in needed if each not in part
    ]


def test_alerts_have_cases_in_which_they_fire() -> None:
    """The rules' own tests have a case for each alert."""
    cases = "".join(each.read_text() for each in TESTS)

    assert alerts() == set(re.findall(r'alertname="(\w+)"', cases))


def test_rules_are_valid() -> None:
    """Promtool accepts the rules."""
    assert "SUCCESS" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("cases", [pytest.param(each, id=each.name) for each in TESTS])
def test_alerts_fire_in_their_cases_only(cases: Path) -> None:
    """Each alert fires in its case, and in none that nearly is one."""
    assert "SUCCESS" in promtool("test", "rules", cases)
