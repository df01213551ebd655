"""The table of faults: each case has tests, and each fault test has a case."""

import re
from pathlib import Path

from testkit.fault_table import CASES, Row, Tally, table

TESTS = Path(__file__).parents[1]


def test_cases_have_a_test_each() -> None:
    """Each case of the table has a test, and each mark has a case."""
    driven: set[int] = set()
    for file in TESTS.rglob("test_*.py"):
        for numbers in re.findall(
            r"^@pytest\.mark\.fault\((.+)\)$", file.read_text(), re.MULTILINE
        ):
            driven |= {int(each) for each in numbers.split(",")}

    assert set(CASES) == driven


def test_table_has_a_row_for_each_case() -> None:
    """Each case that ran has a row with its outcomes, and the last line is the sum."""
    seen = Tally(calls=3, wrong=1, leaked=2)
    seen.outcomes.update(["OK", "RUN_NOT_FOUND", "OK"])
    rows = {1: Row(passed=2), 3: Row(passed=1, failed=1)}
    rows[1].add(seen.plain())
    rows[1].add(Tally(calls=1, silent=1).plain())
    head, first, third, _, totals = table(rows)

    assert ["case", "tests", "calls", "outcomes"] == head.split()
    assert first.startswith(f"   1  {CASES[1]}")
    assert first.endswith("     2      4  OK:2 RUN_NOT_FOUND:1")
    assert third.endswith("     2      0  -  FAILED 1")
    assert totals == (
        f"2 of {len(CASES)} cases: 1 wrong codes or reasons,"
        " 1 calls without an outcome in time, 2 secrets in errors or logs"
    )
