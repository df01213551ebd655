"""How the calls of a method are measured."""

from __future__ import annotations

import pytest

from healthomics_gateway.interceptors.metrics import measure
from healthomics_gateway.telemetry.metrics.parts import MethodMetrics
from testkit.metrics import Seen
from testkit.serving import call_context


@pytest.mark.parametrize(
    ("is_cached", "trace_id", "expected"),
    [
        pytest.param(False, "", {"request_id": "r-1"}, id="untraced"),
        pytest.param(
            False, "ab" * 16, {"request_id": "r-1", "trace_id": "ab" * 16}, id="traced"
        ),
        pytest.param(True, "ab" * 16, None, id="cached"),
    ],
)
async def test_exemplar_has_the_ids_of_the_call(
    is_cached: object, trace_id: str, expected: object
) -> None:
    """The time of a call has its id, and that of its trace if there is one."""
    seen = Seen()
    measured = measure(MethodMetrics(seconds=seen), is_unary=True)
    call = call_context()
    call.trace_ids = {"trace_id": trace_id, "span_id": "cd" * 8} if trace_id else None
    call.is_from_cache = bool(is_cached)

    async def proceed(*_: object) -> bytes:
        return b"answer"

    (intercept,) = measured.interceptors
    assert b"answer" == await intercept(proceed)(None, call)
    assert [expected] == seen.exemplars
