"""Print the table of faults after the tests."""

from __future__ import annotations

from collections import defaultdict

import pytest

from testkit.fault_table import Row, table

ROWS: defaultdict[int, Row] = defaultdict(Row)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the cases that each test covers to its report."""
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.extend(("fault", number) for number in mark.args)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test's outcome in its cases."""
    numbers = {value for name, value in report.user_properties if name == "fault"}
    for number in numbers:
        row = ROWS[number]
        if report.when == "call":
            row.passed += report.passed
            row.failed += report.failed
        elif report.failed:  # in its fixtures
            row.failed += 1
        if report.when == "teardown":
            for name, tally in report.user_properties:
                if name == "tally":
                    row.add(tally)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if ROWS:
        terminalreporter.section("faults")
        for line in table(ROWS):
            terminalreporter.write_line(line)
