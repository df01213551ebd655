"""How the calls of a method are measured."""

from __future__ import annotations

import pytest

from healthomics_gateway.errors.exceptions import AwsAnswer, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.metrics import measure
from healthomics_gateway.telemetry.metrics.parts import MethodMetrics
from testkit.metrics import Seen
from testkit.serving import call_context, failure

ANSWER = AwsAnswer("aws-1", 503)


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
    call.trace_id = trace_id
    call.is_from_cache = bool(is_cached)

    async def proceed(*_: object) -> bytes:
        return b"answer"

    (intercept,) = measured.interceptors
    assert b"answer" == await intercept(proceed)(None, call)
    assert [expected] == seen.exemplars


@pytest.mark.parametrize(
    ("error", "is_refused"),
    [
        pytest.param(failure(Reason.INVALID_REQUEST), True, id="request"),
        pytest.param(failure(Reason.CALLER_NOT_AUTHORIZED), True, id="hidden"),
        pytest.param(NotAskedError(Reason.UPSTREAM_THROTTLED), True, id="own-limit"),
        pytest.param(failure(Reason.UPSTREAM_THROTTLED), False, id="throttled"),
        pytest.param(failure(Reason.UPSTREAM_DNS), False, id="unreachable"),
        pytest.param(failure(Reason.RUN_NOT_FOUND, answer=ANSWER), False, id="answer"),
    ],
)
async def test_refusal_is_an_error_of_the_gateways_own(
    error: object, *, is_refused: bool
) -> None:
    """An answer of HealthOmics is no refusal, nor is a failure to reach it."""
    call = call_context()
    call.error = error
    call.reason = error.reason.name

    assert is_refused is call.is_refused


async def test_call_without_an_error_is_no_refusal() -> None:
    """A call that succeeds is no refusal; a deadline that passes is one."""
    call = call_context()
    succeeded = call.is_refused
    call.reason = Reason.CALLER_DEADLINE.name

    assert (False, True) == (succeeded, call.is_refused)
