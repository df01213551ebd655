"""Failed calls over real sockets: code, reason, details, trailers and attempts."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import GetRunRequest
from testkit.builders import (
    ALWAYS,
    assert_well_made,
    aws_at,
    calling,
    gateway,
    get_run,
    http,
    refused,
    sandboxed,
)
from testkit.gateway_process import SERVICE_CONFIG
from testkit.lying_upstream import LyingUpstream, said, true_run

# AWS's code, and the code, reason, details and attempts of the call's error.
SEED = {
    "9000400": (
        *("ValidationException", StatusCode.INVALID_ARGUMENT, "UPSTREAM_VALIDATION"),
        *({"BadRequest"}, 1),
    ),
    "9000402": (
        *("ServiceQuotaExceededException", StatusCode.RESOURCE_EXHAUSTED),
        *("UPSTREAM_QUOTA_EXCEEDED", {"QuotaFailure"}, 1),
    ),
    "9000403": (
        *("AccessDeniedException", StatusCode.PERMISSION_DENIED),
        *("UPSTREAM_ACCESS_DENIED", set[str](), 1),
    ),
    "9000404": (
        *("ResourceNotFoundException", StatusCode.NOT_FOUND),
        *("RUN_NOT_FOUND", {"ResourceInfo"}, 1),
    ),
    "9000408": (
        *("RequestTimeoutException", StatusCode.UNAVAILABLE),
        *("UPSTREAM_TIMEOUT", {"RetryInfo"}, 3),
    ),
    "9000409": (
        *("ConflictException", StatusCode.FAILED_PRECONDITION),
        *("RUN_CONFLICT", {"PreconditionFailure"}, 1),
    ),
    "9000429": (
        *("ThrottlingException", StatusCode.RESOURCE_EXHAUSTED),
        *("UPSTREAM_THROTTLED", {"QuotaFailure", "RetryInfo"}, 3),
    ),
    "9000500": (
        *("InternalServerException", StatusCode.UNAVAILABLE),
        *("UPSTREAM_INTERNAL", {"RetryInfo"}, 3),
    ),
}


@pytest.mark.guarantee("aws-errors")
@pytest.mark.parametrize("run_id", SEED)
async def test_sandbox_error_has_its_row(run_id: str) -> None:
    """Each of the eight errors has its code, reason, details, trailers and attempts."""
    aws_code, code, reason, details, attempts = SEED[run_id]
    async with sandboxed() as (stub, sandbox):
        failure = await refused(get_run(stub, run_id))

    assert_well_made(failure)
    assert (code, reason, ALWAYS | details) == (
        failure.code,
        failure.reason,
        set(failure.details),
    )
    assert attempts == sandbox.calls
    aws_request_id = failure.trailers["x-amzn-requestid"]
    assert {
        "runId": run_id,
        "region": "us-east-1",
        "attempts": str(attempts),
        "awsErrorCode": aws_code,
        "httpStatus": run_id.removeprefix("9000"),
        "awsRequestId": aws_request_id,
    } == failure.metadata


@pytest.mark.guarantee("no-secrets")
async def test_error_has_aws_message_if_debug_is_set() -> None:
    """With `errors.debug` the error contains AWS's message."""
    async with sandboxed(GATEWAY_ERRORS__DEBUG="true") as (stub, _):
        failure = await refused(get_run(stub, "9000403"))

    assert "is not authorized to perform" in failure.details["DebugInfo"].detail


@pytest.mark.guarantee("validation")
async def test_invalid_request_sends_no_upstream_request() -> None:
    """An invalid request is refused with all its faults, and no request is sent."""
    async with sandboxed() as (stub, sandbox):
        call = get_run(stub, "12x", export=[0, 1, 99], read_mask={"paths": ["nope"]})
        failure = await refused(call)

    assert_well_made(failure)
    assert (StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") == (
        failure.code,
        failure.reason,
    )
    assert ["id", "export[0]", "export[2]", "read_mask.paths[0]"] == [
        each.field for each in failure.details["BadRequest"].field_violations
    ]
    assert 0 == sandbox.calls


async def test_error_has_no_metadata_of_another_call() -> None:
    """The error of an invalid request has no metadata of the call before it."""
    async with sandboxed() as (stub, _):
        await stub.GetRun(GetRunRequest(id="1000003"), timeout=10)
        failure = await refused(get_run(stub, "x"))

    assert {} == failure.metadata


async def test_client_with_the_service_config_retries() -> None:
    """A client with the documented service config retries a transient failure."""
    once = {"GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}
    config = {"grpc.service_config": SERVICE_CONFIG.read_text()}
    async with (
        LyingUpstream() as upstream,
        gateway(aws_at(upstream.url), **once) as served,
        calling(served, **config) as stub,
    ):
        upstream.lie("7", said(503, "ServiceUnavailable"), http(true_run("7")))
        run = await get_run(stub, "7")

    assert ("7", 2) == (run.id, upstream.asked["7"])
