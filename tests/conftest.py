"""Print the table of faults after the tests; let what they start get signals."""

from __future__ import annotations

import signal
from collections import defaultdict

import pytest

from testkit.fault_table import Row, table

ROWS: defaultdict[int, Row] = defaultdict(Row)


def _do_nothing(*_args: object) -> None:
    """Handle SIGHUP, so that it doesn't end the tests."""


# A shell that isn't interactive lets its background jobs ignore SIGINT, and `nohup`
# SIGHUP. A process that a test starts would ignore them too, as a new program ignores
# what the one before it did; what a program handles has its default in the next one.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, _do_nothing)


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
