"""Writes the tests of each promise into docs/internals/guarantees.md.

A row of the page is `| id | promise | tests |`. A test of a promise is marked
`@pytest.mark.guarantee("id")`.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "internals" / "guarantees.md"
_ROW = re.compile(r"^\| `([\w-]+)` \| (.+?) \|.*\|$", re.MULTILINE)


def promises_of(page: str) -> list[tuple[str, str]]:
    """Return the id and the sentences of each promise of a page."""
    return [(match[1], match[2]) for match in _ROW.finditer(page)]


def marked_tests() -> dict[str, list[str]]:
    """Return the tests that are marked with each id, as `tests/file.py::name`."""
    tests = defaultdict(list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for promise in _marks_of(node):
                    test = f"{file.relative_to(ROOT).as_posix()}::{node.name}"
                    tests[promise].append(test)
    return tests


def _marks_of(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Return the ids that a test is marked with."""
    for each in test.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func).endswith(".guarantee"):
            yield from (ast.literal_eval(promise) for promise in each.args)


def with_tests(page: str, tests: Mapping[str, Sequence[str]]) -> str:
    """Return a page with the tests of each promise in its row."""

    def row(match: re.Match[str]) -> str:
        names = ", ".join(f"`{each}`" for each in tests.get(match[1], ()))
        return f"| `{match[1]}` | {match[2]} | {names} |"

    return _ROW.sub(row, page)


if __name__ == "__main__":
    PAGE.write_text(with_tests(PAGE.read_text(), marked_tests()))
