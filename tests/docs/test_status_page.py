"""The page on the status page lists every member of its JSON, in the same order."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from healthomics_gateway.app.statusz.page import RUN_BOOK
from healthomics_gateway.app.statusz.rendering import as_json
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.tls.files import RENEWAL_DUE
from testkit.snapshots import loaded

PAGE = Path(__file__).parents[2] / "docs/guide/status-page.md"
TABLE = PAGE.read_text().split("\n## As JSON\n")[1]
ROWS = [
    [re.findall("`([a-z_]+)`", cell) for cell in line.strip("|").split(" | ")]
    for line in TABLE.splitlines()
    if line.startswith("| `")
]
DESCRIBED = {row[0][0]: row[1] for row in ROWS if len(row[0]) == 1}
STATE: dict[str, Any] = json.loads(as_json(loaded()))


def test_page_names_when_a_certificate_stands_out() -> None:
    """It is the time before its end at which it should have been renewed."""
    days = f"{RENEWAL_DUE.days} days"

    assert f"certificates stand out {days} before their end" in PAGE.read_text()
    assert f"ends within {days} has a note" in (PAGE.parent / "check.md").read_text()


def test_run_book_that_the_page_names_exists() -> None:
    """The file and the heading are those of the guide."""
    file, _, anchor = RUN_BOOK.partition("#")
    heading = f"\n### {anchor.replace('-', ' ').capitalize()}\n"

    assert heading in (PAGE.parents[2] / file).read_text()


def names_in(value: Any) -> set[str]:
    """Return the names of all members in a value."""
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set()


def test_page_lists_the_members_in_order() -> None:
    """The first column has each member of the JSON, and no other."""
    listed = [name for row in ROWS for name in row[0]]

    assert [each.name for each in fields(Snapshot)] == listed


@pytest.mark.parametrize(
    "name", [name for name in STATE if names_in(STATE[name]) and name != "left_out"]
)
def test_page_describes_the_members_of(name: str) -> None:
    """The row of an object or list names the members in it."""
    assert names_in(STATE[name]) <= set(DESCRIBED[name])
