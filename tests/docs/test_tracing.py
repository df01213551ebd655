"""The guide on tracing has exactly the spans, attributes, events and variables."""

from __future__ import annotations

import re
from pathlib import Path

from healthomics_gateway.app.gateway import FLUSH_SECONDS
from healthomics_gateway.telemetry import tracing_setup
from healthomics_gateway.telemetry.message_spans import MAX_HEARTBEATS
from healthomics_gateway.telemetry.otlp import EXPORTERS
from healthomics_gateway.telemetry.spans import CHANGE, EVENTS, SPANS
from healthomics_gateway.telemetry.tracing_reports import NOT_EXPORTED, REPORT_SECONDS

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "tracing.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    part = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [each.strip("| ") for each in part.splitlines() if each.startswith("| `")]
    return [line.split(" | ") for line in lines]


def codes(text: str) -> set[str]:
    """Return what is in code font."""
    return set(re.findall("`([^`]+)`", text))


def test_guide_has_every_span() -> None:
    """Each name has a row."""
    assert [f"`{name}`" for name in SPANS] == [
        row[0] for row in rows("What a trace shows")
    ]


def test_guide_has_every_attribute() -> None:
    """Each attribute has a row, with the spans and events that may have it."""
    documented = {}
    for name, where, _ in rows("Attributes"):
        spans = codes(where)
        if where.startswith("all but"):
            spans = set(SPANS) - spans
        documented[name.strip("`")] = spans
    used: dict[str, set[str]] = {}
    for span, names in (*SPANS.items(), *EVENTS.items()):
        for name in names:
            used.setdefault(name, set()).add(span)
    assert used == documented
    assert () == SPANS[CHANGE]


def test_guide_has_the_variables() -> None:
    """The variables that the gateway itself reads have a row."""
    own = {
        tracing_setup.DISABLED,
        tracing_setup.EXPORTER,
        *tracing_setup.ENDPOINTS,
        *tracing_setup.PROTOCOLS,
    }
    named = {
        name for row in rows("Switch it on") for cell in row for name in codes(cell)
    }
    assert own | set(EXPORTERS) <= named
    assert f"`{tracing_setup.DEFAULT_PROTOCOL}` (the default)" in GUIDE


def test_guide_has_the_bounds() -> None:
    """The numbers in the text are those of the code."""
    text = " ".join(GUIDE.split())

    assert f"the last {MAX_HEARTBEATS} of" in text
    assert f"for at most {FLUSH_SECONDS:g} s" in text
    assert f"`{NOT_EXPORTED}: HTTP status 401`" in text
    assert f"at most once in {REPORT_SECONDS / 60:g} minutes" in text
