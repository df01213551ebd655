"""The pages in docs/decisions are short, numbered, and have the same three parts."""

import re
from pathlib import Path

import pytest

DECISIONS = sorted((Path(__file__).parents[2] / "docs" / "decisions").iterdir())
MAX_LINES = 30

each_decision = pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.stem) for file in DECISIONS]
)


def test_decisions_are_numbered_without_a_gap() -> None:
    """The files are numbered 0001-….md and onwards."""
    names = [
        re.sub(r"^(\d{4})-[a-z0-9-]+\.md$", r"\1", file.name) for file in DECISIONS
    ]

    assert [f"{number:04}" for number in range(1, len(DECISIONS) + 1)] == names


@each_decision
def test_decision_has_its_number_and_its_parts(file: Path) -> None:
    """A decision has its number, the context, the decision and the consequences."""
    title, *parts = re.findall(r"^#+ .+$", file.read_text(), re.MULTILINE)

    assert title.startswith(f"# {int(file.name[:4])}. ")
    assert ["## Context", "## Decision", "## Consequences"] == parts


@each_decision
def test_decision_is_short(file: Path) -> None:
    """A decision has at most thirty lines."""
    assert len(file.read_text().splitlines()) <= MAX_LINES
