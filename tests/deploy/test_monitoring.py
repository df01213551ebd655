"""The dashboard and the alerts name metrics that exist, and promtool accepts them."""

from __future__ import annotations

import json
import math
import re
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.tools import DEPLOY, ROOT, promtool

RULES = DEPLOY / "prometheus" / "rules.yaml"
TESTS = sorted(RULES.parent.glob("*_test.yaml"))
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
METRICS = (ROOT / "docs" / "guide" / "metrics.md").read_text()
NAME = re.compile(r"\b(?:healthomics_gateway|grpc_server|process|python_gc)_\w+")
SUFFIXES = ("_bucket", "_sum", "_count")  # of a histogram's series
# The panels that show the time until an expiry, and the alerts about it.
EXPIRIES = {
    "Credentials expire in": ["HealthOmicsGatewayCredentialsExpiring"],
    "Certificate expires in": [
        "HealthOmicsGatewayCertificateExpired",
        "HealthOmicsGatewayCertificateExpiring",
    ],
}
CREDENTIALS = "healthomics_gateway_credentials_expiry_timestamp_seconds"
CERTIFICATE = 'healthomics_gateway_certificate_expiry_timestamp_seconds{listener="a"}'
ATTEMPTS = "healthomics_gateway_upstream_attempts_total"
NOW = 4 * 86400  # of the cases, in seconds; a sample a minute
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


def panel_of(title: str) -> dict[str, Any]:
    """Return a panel of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    (panel,) = (each for each in panels if each["title"] == title)
    found: dict[str, Any] = panel
    return found


def evaluated(expression: str) -> str:
    """Return an expression with values for the variables of the dashboard."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


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
    plain = [evaluated(each) for each in expressions()]

    assert_valid(plain, tmp_path)


@pytest.mark.parametrize("title", EXPIRIES)
def test_panel_of_an_expiry_changes_its_color_where_alerts_fire(title: str) -> None:
    """The steps of the panel are the thresholds of the alerts."""
    thresholds = []
    for alert in EXPIRIES[title]:
        text = RULES.read_text().split(f"- alert: {alert}\n")[1].split("labels:")[0]
        (product,) = re.findall(r"- time\(\) < ([\d* ]+)", text)
        thresholds.append(math.prod(map(float, product.split("*"))))
    steps = panel_of(title)["fieldConfig"]["defaults"]["thresholds"]["steps"]

    assert thresholds == [each["value"] for each in steps[1:]]


@pytest.mark.parametrize(
    ("title", "series", "left"),
    [
        pytest.param(
            "Credentials expire in",
            {CREDENTIALS: f"{NOW + 200}+0x6000", ATTEMPTS: "0+1x6000"},
            200,
            id="credentials that calls don't renew",
        ),
        pytest.param(
            "Credentials expire in",
            {CREDENTIALS: f"{NOW + 200}+0x6000", ATTEMPTS: "7+0x6000"},
            None,
            id="credentials of an idle gateway",
        ),
        pytest.param(
            "Certificate expires in",
            {CERTIFICATE: f"{NOW + 8000000}+0x6000"},
            8000000,
            id="certificate for months",
        ),
        pytest.param(
            "Certificate expires in",
            {CERTIFICATE: f"{NOW + 172800}+0x6000"},
            172800,
            id="certificate that nobody replaces",
        ),
        pytest.param(
            "Certificate expires in",
            {CERTIFICATE: "3600+60x6000"},
            None,
            id="certificates for an hour",
        ),
        pytest.param(
            "Certificate expires in",
            {CERTIFICATE: "600+60x6000"},
            600,
            id="certificates that are replaced too late",
        ),
    ],
)
def test_panel_of_an_expiry_shows_what_alerts_are_about(
    title: str, series: dict[str, str], left: int | None, tmp_path: Path
) -> None:
    """Credentials of an idle gateway and renewed certificates aren't shown."""
    (target,) = panel_of(title)["targets"]
    samples = [] if left is None else [{"labels": "{}", "value": left}]
    case = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": evaluated(target["expr"]),
                "eval_time": f"{NOW}s",
                "exp_samples": samples,
            }
        ],
    }
    file = tmp_path / "case.yaml"
    file.write_text(json.dumps({"tests": [case]}))

    assert "SUCCESS" in promtool("test", "rules", file)


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
