"""Which calls count as refused."""

from __future__ import annotations

import pytest

from healthomics_gateway.errors.exceptions import AwsAnswer, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.outcome import is_refused
from testkit.serving import call_context, failure

ANSWER = AwsAnswer("aws-1", 503)


@pytest.mark.parametrize(
    ("error", "expected"),
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
    error: object, *, expected: bool
) -> None:
    """An answer of HealthOmics is no refusal, nor is a failure to reach it."""
    call = call_context()
    call.error = error
    call.reason = error.reason.name

    assert expected is is_refused(call)


async def test_call_without_an_error_is_no_refusal() -> None:
    """A call that succeeds is no refusal; a deadline that passes is one."""
    call = call_context()
    succeeded = is_refused(call)
    call.reason = Reason.CALLER_DEADLINE.name

    assert (False, True) == (succeeded, is_refused(call))
