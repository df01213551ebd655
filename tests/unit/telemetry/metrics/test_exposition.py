"""The formats of the metrics, and how requests for them share the work."""

from __future__ import annotations

import asyncio

import pytest

from healthomics_gateway.telemetry.metrics.exposition import (
    OPENMETRICS,
    TEXT,
    Exposition,
    prefers_openmetrics,
)
from healthomics_gateway.telemetry.metrics.registry import Metrics

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        pytest.param("", False, id="none"),
        pytest.param("*/*", False, id="anything"),
        pytest.param("text/html,*/*;q=0.8", False, id="browser"),
        pytest.param(PROMETHEUS, True, id="prometheus"),
        pytest.param("Application/OpenMetrics-Text", True, id="alone"),
        pytest.param("application/openmetrics-text, text/plain", True, id="equal"),
        pytest.param("application/openmetrics-text;q=0.3,text/plain", False, id="less"),
        pytest.param("application/openmetrics-text; q=0", False, id="refused"),
        pytest.param("application/openmetrics-text;q=x", False, id="not-a-number"),
        pytest.param("application/openmetrics-text;q=nan", False, id="nan"),
        pytest.param(";,;q=", False, id="malformed"),
    ],
)
def test_openmetrics_is_served_if_accept_prefers_it(
    accept: str, *, is_preferred: bool
) -> None:
    """OpenMetrics is served only if it is named, and accepted as much as text."""
    assert is_preferred is prefers_openmetrics(accept)


async def test_page_has_the_type_of_its_format() -> None:
    """The content type says which format it is; OpenMetrics ends with a line for it."""
    exposition = Exposition(Metrics(reasons=("A",)))
    text, kind = await exposition.page("")
    opened, open_kind = await exposition.page(PROMETHEUS)

    assert (TEXT, OPENMETRICS) == (kind, open_kind)
    assert opened.endswith(b"# EOF\n")
    assert not text.endswith(b"# EOF\n")


async def test_requests_that_come_together_share_a_page() -> None:
    """While a page is made, further requests wait for it instead of making theirs."""
    exposition = Exposition(Metrics(reasons=("A",)))
    pages = await asyncio.gather(*(exposition.page("") for _ in range(50)))

    assert 1 == len({id(body) for body, _ in pages})
