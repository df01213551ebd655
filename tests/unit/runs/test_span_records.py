"""How a span ends with an error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.span_records import end_with


class Ended:
    """A span that keeps how it ended."""

    def end(self, reason: str = "", *, is_fault: bool = False) -> None:
        """Keep it."""
        self.outcome = reason, is_fault


@pytest.mark.parametrize(
    ("error", "is_client", "expected"),
    [
        pytest.param(None, False, ("", False), id="none"),
        pytest.param(
            GatewayError(Reason.RUN_NOT_FOUND),
            False,
            ("RUN_NOT_FOUND", False),
            id="callers",
        ),
        pytest.param(
            GatewayError(Reason.RUN_NOT_FOUND),
            True,
            ("RUN_NOT_FOUND", True),
            id="of-a-client",
        ),
        pytest.param(
            GatewayError(Reason.UPSTREAM_INTERNAL),
            False,
            ("UPSTREAM_INTERNAL", True),
            id="servers",
        ),
        pytest.param(
            asyncio.CancelledError(), False, ("CANCELLED", False), id="cancelled"
        ),
        pytest.param(KeyError(), False, ("KeyError", True), id="bug"),
    ],
)
def test_span_ends_with_the_reason(
    error: BaseException | None, is_client: Any, expected: tuple[str, bool]
) -> None:
    """Only faults of the server are errors, except for an HTTP client's span."""
    span: Any = Ended()
    end_with(span, error, is_client=is_client)
    assert expected == span.outcome
