"""How calls fail, through real sockets: code, reason, details, trailers, attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import GetRunRequest
from testkit.builders import (
    ALWAYS,
    Refusal,
    Sandbox,
    Upstream,
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

RUN = '{"id": "1000003", "status": "RUNNING"}'


@dataclass(frozen=True, slots=True)
class Row:
    """What one error of AWS becomes."""

    aws_code: str
    code: StatusCode
    reason: str
    details: frozenset[str]
    upstream_calls: int


def row(
    aws_code: str, code: StatusCode, reason: str, *details: str, calls: int = 1
) -> Row:
    """Make one row of the table; `details` are those beside the two of every error."""
    return Row(aws_code, code, reason, ALWAYS | set(details), calls)


SEED = {
    "9000400": row(
        "ValidationException",
        StatusCode.INVALID_ARGUMENT,
        "UPSTREAM_VALIDATION",
        "BadRequest",
    ),
    "9000402": row(
        "ServiceQuotaExceededException",
        StatusCode.RESOURCE_EXHAUSTED,
        "UPSTREAM_QUOTA_EXCEEDED",
        "QuotaFailure",
    ),
    "9000403": row(
        "AccessDeniedException", StatusCode.PERMISSION_DENIED, "UPSTREAM_ACCESS_DENIED"
    ),
    "9000404": row(
        "ResourceNotFoundException",
        StatusCode.NOT_FOUND,
        "RUN_NOT_FOUND",
        "ResourceInfo",
    ),
    "9000408": row(
        "RequestTimeoutException",
        StatusCode.UNAVAILABLE,
        "UPSTREAM_TIMEOUT",
        "RetryInfo",
        calls=3,
    ),
    "9000409": row(
        "ConflictException",
        StatusCode.FAILED_PRECONDITION,
        "RUN_CONFLICT",
        "PreconditionFailure",
    ),
    "9000429": row(
        "ThrottlingException",
        StatusCode.RESOURCE_EXHAUSTED,
        "UPSTREAM_THROTTLED",
        "QuotaFailure",
        "RetryInfo",
        calls=3,
    ),
    "9000500": row(
        "InternalServerException",
        StatusCode.UNAVAILABLE,
        "UPSTREAM_INTERNAL",
        "RetryInfo",
        calls=3,
    ),
}


@pytest.mark.guarantee("aws-errors")
@pytest.mark.parametrize("run_id", SEED)
async def test_error_of_the_seed_has_its_row(run_id: str) -> None:
    """Each of the eight has its code, reason, details, trailers and attempts."""
    expected = SEED[run_id]
    async with sandboxed() as (stub, sandbox):
        failure = await refused(get_run(stub, run_id))

    assert_well_made(failure)
    assert (expected.code, expected.reason) == (failure.code, failure.reason)
    assert expected.details == set(failure.details)
    assert expected.upstream_calls == sandbox.calls
    aws_request_id = failure.trailers["x-amzn-requestid"]
    assert {
        "runId": run_id,
        "region": "us-east-1",
        "attempts": str(expected.upstream_calls),
        "awsErrorCode": expected.aws_code,
        "httpStatus": run_id.removeprefix("9000"),
        "awsRequestId": aws_request_id,
    } == failure.metadata


async def test_error_names_the_run_that_is_not_there() -> None:
    """NOT_FOUND and FAILED_PRECONDITION name their run, by the id asked for."""
    async with sandboxed() as (stub, _):
        missing = await refused(get_run(stub, "9000404"))
        conflict = await refused(get_run(stub, "9000409"))

    resource = missing.details["ResourceInfo"]
    assert ("omics.run", "9000404") == (resource.resource_type, resource.resource_name)
    (violation,) = conflict.details["PreconditionFailure"].violations
    assert ("RUN_STATE", "9000409") == (violation.type, violation.subject)


@pytest.mark.guarantee("no-secrets")
async def test_error_tells_aws_words_only_where_debugging_is_on() -> None:
    """With errors.debug AWS's sentence rides along; without it nothing of it leaves."""
    async with sandboxed(GATEWAY_ERRORS__DEBUG="true") as (stub, _):
        failure = await refused(get_run(stub, "9000403"))

    assert "is not authorized to perform" in failure.details["DebugInfo"].detail


async def test_error_that_passes_is_retried_to_an_answer() -> None:
    """Two failures of HealthOmics and then an answer are an answer."""
    failing = http(status=500, x_amzn_errortype="InternalServerException")
    async with (
        Upstream(failing, failing, http(RUN)) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        run = await get_run(stub, "1000003")

    assert "1000003" == run.id
    assert 3 == len(upstream.requests)


async def ending_of(*answers: Any, **settings: str) -> tuple[Refusal, int]:
    """Ask a gateway whose upstream says `answers`; give the failure and the calls."""
    async with (
        Upstream(*answers) as upstream,
        gateway(aws_at(upstream.url), **settings) as served,
        calling(served) as stub,
    ):
        failure = await refused(get_run(stub, "1000003"))
        return failure, len(upstream.requests)


@pytest.mark.guarantee("own-run", "invalid-success")
@pytest.mark.parametrize(
    ("answer", "reason", "calls"),
    [
        pytest.param(
            http("<html>Sign in</html>"), "UPSTREAM_MALFORMED_RESPONSE", 2, id="html"
        ),
        pytest.param(http(""), "UPSTREAM_MALFORMED_RESPONSE", 2, id="nothing"),
        pytest.param(http(RUN[:-5]), "UPSTREAM_MALFORMED_RESPONSE", 2, id="truncated"),
        pytest.param(
            http(RUN, keep=False, content_length="500"),
            "UPSTREAM_CONNECTION",
            3,
            id="cut",
        ),
        pytest.param(
            http('{"id": "1000004", "status": "RUNNING"}'),
            "UPSTREAM_IDENTITY_MISMATCH",
            2,
            id="another-run",
        ),
        pytest.param(http('{"a": 1}'), "UPSTREAM_IDENTITY_MISMATCH", 2, id="no-id"),
        pytest.param(
            http('{"__type": "ns#ResourceNotFoundException"}'),
            "RUN_NOT_FOUND",
            1,
            id="error-in-a-200",
        ),
        pytest.param(
            http(RUN, content_encoding="gzip"),
            "UPSTREAM_MALFORMED_RESPONSE",
            1,
            id="compressed",
        ),
    ],
)
async def test_success_that_is_none_is_never_ok(
    answer: bytes, reason: str, calls: int
) -> None:
    """A 200 without the run that was asked for is an error of its own row."""
    failure, upstream_calls = await ending_of(answer)

    assert_well_made(failure)
    assert (reason, calls) == (failure.reason, upstream_calls)


async def test_answer_over_the_cap_is_refused() -> None:
    """A body larger than upstream.max_body_bytes isn't read to its end, nor retried."""
    body = f'{{"id": "1000003", "name": "{"x" * 5000}"}}'
    failure, calls = await ending_of(
        http(body), GATEWAY_UPSTREAM__MAX_BODY_BYTES="4096"
    )

    assert ("UPSTREAM_RESPONSE_TOO_LARGE", 1) == (failure.reason, calls)


@pytest.mark.guarantee("trusted-endpoint")
@pytest.mark.parametrize("status", [301, 304, 307])
async def test_redirect_is_not_followed(status: int) -> None:
    """A redirect is an error, and its target hears nothing."""
    async with Upstream(http(RUN)) as target:
        failure, calls = await ending_of(http(status=status, location=target.url))

    assert ("UPSTREAM_UNEXPECTED_REDIRECT", 1) == (failure.reason, calls)
    assert [] == target.requests


@pytest.mark.guarantee("proxy-pages")
@pytest.mark.parametrize("status", [401, 403, 404, 407])
async def test_page_of_a_proxy_is_not_healthomics_word(status: int) -> None:
    """HTML under a client error is unrecognized: no NOT_FOUND, nothing echoed."""
    page = http("<html>proxy secret</html>", status=status, content_type="text/html")
    failure, calls = await ending_of(page)

    assert (StatusCode.UNKNOWN, "UPSTREAM_UNRECOGNIZED") == (
        failure.code,
        failure.reason,
    )
    assert 2 == calls
    assert "proxy secret" not in f"{failure.message}{failure.details}"


async def test_upstream_that_is_stopped_is_unavailable() -> None:
    """With nobody listening the call ends UNAVAILABLE after its attempts."""
    async with Sandbox() as sandbox:
        url = sandbox.url
    async with gateway(aws_at(url)) as served, calling(served) as stub:
        failure = await refused(get_run(stub, "1000003"))

    assert_well_made(failure)
    assert (StatusCode.UNAVAILABLE, "UPSTREAM_CONNECTION") == (
        failure.code,
        failure.reason,
    )
    assert {"runId": "1000003", "region": "us-east-1", "attempts": "3"} == (
        failure.metadata
    )


async def test_upstream_that_resets_is_unavailable() -> None:
    """A connection that is dropped before any answer is tried again, then given up."""
    failure, calls = await ending_of(b"HTTP/1.1 200")

    assert_well_made(failure)
    assert ("UPSTREAM_CONNECTION", 3) == (failure.reason, calls)


async def test_upstream_that_is_too_slow_times_out() -> None:
    """An attempt that outlasts its time is tried again, then UPSTREAM_TIMEOUT."""
    failure, calls = await ending_of(
        [30.0],
        GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT="100ms",
        GATEWAY_UPSTREAM__CONNECT_TIMEOUT="100ms",
    )

    assert_well_made(failure)
    assert (StatusCode.UNAVAILABLE, "UPSTREAM_TIMEOUT") == (
        failure.code,
        failure.reason,
    )
    assert 3 == calls


@pytest.mark.guarantee("validation")
async def test_bad_request_asks_nothing_of_healthomics() -> None:
    """Every fault of a request is named, and no upstream call is made."""
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


async def raw(served: Any, method: str, body: bytes, **options: Any) -> Refusal:
    """Send bytes to a method, and give how they were refused."""
    async with grpc.aio.insecure_channel(str(served.address)) as channel:
        return await refused(channel.unary_unary(method)(body, timeout=10, **options))


METHOD = "/healthomics.v1.RunService/GetRun"


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05\xff\xff", b"\x0a\x01\xff"])
async def test_bytes_that_are_no_request_are_malformed(body: bytes) -> None:
    """What doesn't decode is INVALID_ARGUMENT with its reason."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        failure = await raw(served, METHOD, body)

    assert_well_made(failure)
    assert (StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST") == (
        failure.code,
        failure.reason,
    )
    assert 0 == sandbox.calls


@pytest.mark.parametrize(
    "method", ["/healthomics.v1.RunService/Nope", "/nope.Nope/GetRun", "nope"]
)
async def test_method_that_does_not_exist_is_unimplemented(method: str) -> None:
    """An unknown method is UNIMPLEMENTED with its reason."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        failure = await raw(served, method, b"")

    assert_well_made(failure)
    assert (StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN") == (
        failure.code,
        failure.reason,
    )


async def test_throttled_account_tells_when_to_come_back() -> None:
    """Beyond the account's quota a call ends RESOURCE_EXHAUSTED with the wait."""
    stopped = 0.0
    async with (
        Sandbox(quota_per_second=1, monotonic=lambda: stopped) as sandbox,
        gateway(aws_at(sandbox.url), GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as served,
        calling(served) as stub,
    ):
        await get_run(stub, "1000003")
        failure = await refused(get_run(stub, "1000003"))

    assert_well_made(failure)
    assert (StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_THROTTLED") == (
        failure.code,
        failure.reason,
    )
    assert "RetryInfo" in failure.details


@pytest.mark.guarantee("errors-not-cached")
async def test_error_is_forgotten_at_once() -> None:
    """The call after a failure is asked anew, and answered."""
    missing = http(status=404, x_amzn_errortype="ResourceNotFoundException")
    async with (
        Upstream(missing, http(RUN)) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        failure = await refused(get_run(stub, "1000003"))
        run = await get_run(stub, "1000003")

    assert ("RUN_NOT_FOUND", "1000003") == (failure.reason, run.id)


async def test_facts_of_a_call_stay_with_it() -> None:
    """A malformed request right after a good one tells nothing of the good one."""
    async with sandboxed() as (stub, _):
        await stub.GetRun(GetRunRequest(id="1000003"), timeout=10)
        failure = await refused(get_run(stub, "x"))

    assert {} == failure.metadata


async def test_client_with_the_service_config_tries_again_by_itself() -> None:
    """A failure that may pass is none for a client that loads what is documented."""
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
