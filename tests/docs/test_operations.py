"""docs/guide/operations.md names metrics, settings, events and reasons that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from deploy.test_monitoring import RULES, assert_valid, documented, named
from docs.test_map import SERVER, sources
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.settings.schema import CallerRule, Settings
from healthomics_gateway.settings.sources import leaves
from healthomics_gateway.upstream.classify import ANSWERED, FAILURES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide" / "operations.md"
TEXT = PAGE.read_text()
PROSE = re.sub(r"(?ms)^ *```.*?^ *```\n", "", TEXT)
RUN_BOOKS = TEXT.split("\n## Run books\n")[1]
SECTIONS = dict(section.split("\n", 1) for section in RUN_BOOKS.split("\n### ")[1:])
CONFIGURATION = (PAGE.parent / "configuration.md").read_text()
# Modules in which each reason that is named makes a part of readiness unready, beside
# the calls of `report` in any module.
UNREADY = {
    "app/readiness_parts.py",
    "services/readiness.py",
    "upstream/credential_chain.py",
}
# Variables of AWS and of proxies, which other programs read too.
VARIABLES = {
    *("AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_OMICS", "AWS_SESSION_TOKEN"),
    "HTTPS_PROXY",
}
# Of a request, of Prometheus and of the chart.
ELSEWHERE = {"max_staleness", "runbook_url"}


def written() -> set[str]:
    """Return the texts and the names of arguments in the code of the gateway."""
    found = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                found.add(node.arg)
    return found


def reasons_in(node: ast.AST) -> set[str]:
    """Return the reasons that a part of the code names."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.value, ast.Name)
        and each.value.id == "Reason"
    }


def unready_reasons() -> set[str]:
    """Return the reasons that the gateway can be unready for, as its code says."""
    unreached = FAILURES.keys() - ANSWERED
    found = {FAILURES[each].reason.name for each in unreached}
    for file, tree in sources():
        if str(file.relative_to(SERVER)) in UNREADY:
            found |= reasons_in(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and is_report(node.func):
                found |= reasons_in(node)
    return found


def is_report(function: ast.expr) -> bool:
    """Return whether a function that is called reports the state of a part."""
    return isinstance(function, ast.Attribute) and function.attr in (
        "report",
        "_report",
    )


def reasons_of_rows(text: str, cell: int) -> set[str]:
    """Return the reasons in one cell of each row of the tables in a text."""
    rows = [row.split(" | ") for row in re.findall(r"(?m)^\| (.*) \|$", text)]
    return {
        reason
        for row in rows
        for reason in re.findall(r"[A-Z]+(?:_[A-Z]+)+", row[cell])
    }


def words(text: str) -> set[str]:
    """Return the names in code font: of settings, metrics, events and fields."""
    return set(re.findall(r"`([a-z]+(?:[._][a-z]+)+)`", text))


def promql() -> list[str]:
    """Return the expressions of the page, one a line."""
    blocks = re.findall(r"(?ms)^```promql\n(.*?)^```", TEXT)
    return [line for block in blocks for line in block.splitlines()]


def anchor_of(heading: str) -> str:
    """Return a heading's anchor."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


WRITTEN = written()


def test_expressions_name_metrics_that_exist() -> None:
    """Each metric on the page is on the page of metrics."""
    assert promql()
    assert named(TEXT) <= documented()


def test_expressions_are_valid(tmp_path: Path) -> None:
    """Prometheus's parser accepts each expression of the page."""
    assert_valid(promql(), tmp_path)


def test_names_are_settings_metrics_events_or_fields() -> None:
    """Each name in code font exists in the gateway."""
    settings = {name for name, _ in leaves(Settings())} | set(CallerRule.model_fields)
    known = settings | WRITTEN | named(TEXT) | ELSEWHERE
    files = re.compile(r".*\.(yaml|toml|json|log)$")

    assert set() == {each for each in words(PROSE) - known if not files.match(each)}


def test_reasons_exist() -> None:
    """Each word in capitals is a reason or a variable."""
    found = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", PROSE)) - {"RUN_ID"}

    assert found <= {each.name for each in Reason} | VARIABLES


def test_reasons_to_be_unready_have_rows() -> None:
    """Each reason for which `/readyz` is 503 has a row that says what to do."""
    assert unready_reasons() == reasons_of_rows(SECTIONS["Not ready"], 0)


def test_configuration_has_the_reasons_of_the_parts() -> None:
    """The table of the parts has each reason for which one of them is unready."""
    parts = CONFIGURATION.split("\n| part | ")[1].split("\n\n")[0]

    assert unready_reasons() == reasons_of_rows(parts, 2)


def test_run_books_of_alerts_name_them() -> None:
    """Each alert's run book is a section of the page, which names the alert."""
    pairs = re.findall(
        r"- alert: (\w+)\n.*?runbook_url: docs/guide/operations\.md#([\w-]+)\n",
        RULES.read_text(),
        re.DOTALL,
    )
    sections = {anchor_of(heading): text for heading, text in SECTIONS.items()}

    assert len(re.findall("- alert: ", RULES.read_text())) == len(pairs)
    assert [] == [
        alert for alert, anchor in pairs if f"`{alert}`" not in sections.get(anchor, "")
    ]


@pytest.mark.parametrize("heading", SECTIONS)
def test_run_book_has_metric_log_and_action(heading: str) -> None:
    """Each run book has its alerts, or why none, PromQL, the log, and what to do."""
    text = SECTIONS[heading]

    assert re.search(r"^Alerts: (`|none, because )", text, re.MULTILINE)
    assert "```promql\n" in text
    assert re.search(r"^Log: ", text, re.MULTILINE)
    assert re.search(r"^(1\. |\| .* \| do \||\| .* \| look at \|)", text, re.MULTILINE)


def test_panels_of_the_dashboard_name_run_books() -> None:
    """Each run book that a panel names is a section of the page."""
    table = (ROOT / "deploy" / "grafana" / "panels.toml").read_text()
    anchors = set(re.findall(r'^run_book = "(.*)"$', table, re.MULTILINE))

    assert anchors
    assert anchors <= {anchor_of(heading) for heading in SECTIONS}
