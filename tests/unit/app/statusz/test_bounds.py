"""The bounds on texts of the status page."""

from __future__ import annotations

import os

import pytest

from healthomics_gateway.app.statusz.bounds import MAX_TEXT, clipped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("a/ü", "a/ü", id="short"),
        pytest.param("x" * MAX_TEXT, "x" * MAX_TEXT, id="longest"),
        pytest.param("x" * (MAX_TEXT + 1), "x" * (MAX_TEXT - 1) + "…", id="too-long"),
        pytest.param(os.fsdecode(b"/\xff.json"), "/\\udcff.json", id="not-utf-8"),
    ],
)
def test_text_is_bounded_and_can_be_encoded(text: str, shown: str) -> None:
    """A long text is cut, and what UTF-8 can't encode is escaped."""
    assert shown == clipped(text)
    assert len(clipped(text * MAX_TEXT)) <= MAX_TEXT
