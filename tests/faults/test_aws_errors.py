"""AWS's errors: every code, where it is read from, and which errors are retried."""

from __future__ import annotations

import json
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox import REGION
from testkit.builders import ALWAYS, Refusal, http
from testkit.callers import until
from testkit.lying_upstream import ARN, CANARY, said, true_run

ID = "2000001"
THRICE = 3  # attempts, if an error is retried
DETAILS = {
    Reason.UPSTREAM_VALIDATION: {"BadRequest"},
    Reason.UPSTREAM_QUOTA_EXCEEDED: {"QuotaFailure"},
    Reason.RUN_NOT_FOUND: {"ResourceInfo"},
    Reason.RUN_CONFLICT: {"PreconditionFailure"},
    Reason.UPSTREAM_THROTTLED: {"QuotaFailure", "RetryInfo"},
    Reason.UPSTREAM_TIMEOUT: {"RetryInfo"},
    Reason.UPSTREAM_INTERNAL: {"RetryInfo"},
    Reason.UPSTREAM_UNAVAILABLE: {"RetryInfo"},
    Reason.UPSTREAM_CONNECTION: {"RetryInfo"},
    Reason.GATEWAY_CREDENTIALS_EXPIRED: {"RetryInfo"},
    Reason.GATEWAY_CLOCK_SKEW: {"RetryInfo"},
}
OF_GET_RUN = (
    (400, "ValidationException", Reason.UPSTREAM_VALIDATION),
    (402, "ServiceQuotaExceededException", Reason.UPSTREAM_QUOTA_EXCEEDED),
    (403, "AccessDeniedException", Reason.UPSTREAM_ACCESS_DENIED),
    (404, "ResourceNotFoundException", Reason.RUN_NOT_FOUND),
    (409, "ConflictException", Reason.RUN_CONFLICT),
)
# Permanent, as there are no other credentials and no response has a date.
COMMON = (
    (403, "AccessDenied", Reason.UPSTREAM_ACCESS_DENIED),
    (401, "NotAuthorized", Reason.UPSTREAM_ACCESS_DENIED),
    (400, "ValidationError", Reason.UPSTREAM_VALIDATION),
    (400, "InvalidParameterValue", Reason.UPSTREAM_VALIDATION),
    (400, "InvalidParameterCombination", Reason.UPSTREAM_VALIDATION),
    (400, "MissingParameter", Reason.UPSTREAM_VALIDATION),
    (403, "InvalidSignatureException", Reason.GATEWAY_SIGNATURE_REJECTED),
    (403, "SignatureDoesNotMatch", Reason.GATEWAY_SIGNATURE_REJECTED),
    (400, "IncompleteSignature", Reason.GATEWAY_SIGNATURE_REJECTED),
    (403, "OptInRequired", Reason.GATEWAY_ACCOUNT_NOT_ENABLED),
    (400, "SubscriptionRequiredException", Reason.GATEWAY_ACCOUNT_NOT_ENABLED),
    (404, "UnknownOperationException", Reason.GATEWAY_REQUEST_REJECTED),
    (400, "InvalidAction", Reason.GATEWAY_REQUEST_REJECTED),
    (400, "MissingAction", Reason.GATEWAY_REQUEST_REJECTED),
    (404, "MalformedQueryString", Reason.GATEWAY_REQUEST_REJECTED),
    (400, "InvalidQueryParameter", Reason.GATEWAY_REQUEST_REJECTED),
    (400, "MalformedHttpRequestException", Reason.GATEWAY_REQUEST_REJECTED),
    (413, "RequestEntityTooLargeException", Reason.GATEWAY_REQUEST_REJECTED),
    (400, "SerializationException", Reason.GATEWAY_REQUEST_REJECTED),
)
PASSING = (
    (408, "RequestTimeoutException", Reason.UPSTREAM_TIMEOUT),
    (408, "RequestTimeout", Reason.UPSTREAM_TIMEOUT),
    (500, "InternalServerException", Reason.UPSTREAM_INTERNAL),
    (500, "InternalFailure", Reason.UPSTREAM_INTERNAL),
    (500, "InternalServerError", Reason.UPSTREAM_INTERNAL),
    (500, "InternalError", Reason.UPSTREAM_INTERNAL),
    (503, "ServiceUnavailable", Reason.UPSTREAM_UNAVAILABLE),
    (503, "ServiceUnavailableException", Reason.UPSTREAM_UNAVAILABLE),
    (500, "RequestAborted", Reason.UPSTREAM_CONNECTION),
    (500, "RequestAbortedException", Reason.UPSTREAM_CONNECTION),
)
THROTTLES = (
    *("ThrottlingException", "Throttling", "ThrottledException", "RequestThrottled"),
    *("RequestThrottledException", "TooManyRequestsException", "SlowDown"),
    *("ProvisionedThroughputExceededException", "RequestLimitExceeded"),
    *("BandwidthLimitExceeded", "LimitExceededException", "EC2ThrottledException"),
    *("TransactionInProgressException", "PriorRequestNotComplete"),
)


def rows(*table: tuple[int, str, Reason]) -> list[Any]:
    """Return the rows of a table as parameters, named by AWS's code."""
    return [pytest.param(*row, id=row[1]) for row in table]


def error_in_body(status: int, code: str, **headers: str) -> bytes:
    """Return an error that has AWS's code only in its JSON body."""
    body = json.dumps({"__type": code, "message": f"{CANARY} {ARN}"})
    return http(body, status=status, x_amzn_requestid="aws-1", **headers)


def assert_describes(refusal: Refusal, status: int, code: str, attempts: int) -> None:
    """Check the metadata and trailers that describe HealthOmics' answer."""
    assert {
        "runId": ID,
        "region": REGION,
        "attempts": str(attempts),
        "awsErrorCode": code,
        "httpStatus": str(status),
        "awsRequestId": "aws-1",
    } == refusal.metadata
    assert "aws-1" == refusal.trailers["x-amzn-requestid"]


@pytest.mark.guarantee("upstream-responses")
@pytest.mark.fault(1)
@pytest.mark.parametrize(("status", "code", "reason"), rows(*OF_GET_RUN, *COMMON))
async def test_permanent_error_is_not_retried(
    rigged: Any, status: int, code: str, reason: Reason
) -> None:
    """A permanent error is returned as in its row, after one request."""
    async with rigged() as rig:
        rig.upstream.lie(ID, error_in_body(status, code))
        refusal = await rig.refusal(ID, reason)
        assert 1 == rig.upstream.asked[ID]

    assert {*ALWAYS, *DETAILS.get(reason, ())} == set(refusal.details)
    assert_describes(refusal, status, code, 1)


@pytest.mark.guarantee("upstream-responses")
@pytest.mark.fault(1)
@pytest.mark.parametrize(("status", "code", "reason"), rows(*PASSING))
async def test_transient_error_is_retried_twice(
    rigged: Any, status: int, code: str, reason: Reason
) -> None:
    """A transient error is returned as in its row, after three requests."""
    async with rigged() as rig:
        rig.upstream.lie(ID, error_in_body(status, code))
        refusal = await rig.refusal(ID, reason)
        assert THRICE == rig.upstream.asked[ID]

    assert {*ALWAYS, *DETAILS[reason]} == set(refusal.details)
    assert_describes(refusal, status, code, THRICE)


@pytest.mark.fault(1)
@pytest.mark.parametrize("code", THROTTLES)
async def test_throttle_is_not_retried_beyond_the_deadline(
    rigged: Any, code: str
) -> None:
    """A throttle whose wait exceeds the deadline is returned after one request."""
    async with rigged() as rig:
        rig.upstream.lie(ID, error_in_body(429, code, x_amz_retry_after="3000"))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_THROTTLED, seconds=2)
        assert 1 == rig.upstream.asked[ID]

    assert {*ALWAYS, "QuotaFailure", "RetryInfo"} == set(refusal.details)
    assert_describes(refusal, 429, code, 1)


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param(code, reason, id=code)
        for reason, codes in (
            (
                Reason.GATEWAY_CREDENTIALS_EXPIRED,
                ("ExpiredToken", "ExpiredTokenException"),
            ),
            (
                Reason.GATEWAY_CLOCK_SKEW,
                ("RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"),
            ),
            (
                Reason.GATEWAY_CREDENTIALS_INVALID,
                (
                    "UnrecognizedClientException",
                    "InvalidClientTokenId",
                    "MissingAuthenticationToken",
                    "MissingAuthenticationTokenException",
                ),
            ),
        )
        for code in codes
    ],
)
async def test_refused_credentials_and_clock_are_retried_once(
    rigged: Any, code: str, reason: Reason
) -> None:
    """Refused credentials, or a wrong clock, are returned after a second request."""
    async with rigged() as rig:
        rig.upstream.lie(ID, error_in_body(403, code))
        refusal = await rig.refusal(ID, reason)
        assert 2 == rig.upstream.asked[ID]

    assert {*ALWAYS, *DETAILS.get(reason, ())} == set(refusal.details)
    assert_describes(refusal, 403, code, 2)


@pytest.mark.fault(2)
async def test_header_code_overrides_the_body(rigged: Any) -> None:
    """Of two codes the header's counts, whatever the HTTP status is."""
    answer = http(
        json.dumps({"__type": "ThrottlingException", "code": "ValidationException"}),
        status=500,
        x_amzn_errortype="ConflictException",
    )
    in_body = http(
        json.dumps({"code": "ValidationException", "__type": "ConflictException"}),
        status=429,
    )
    async with rigged() as rig:
        rig.upstream.lie(ID, answer, in_body)
        for _ in range(2):
            await rig.refusal(ID, Reason.RUN_CONFLICT)
        assert 2 == rig.upstream.asked[ID]


@pytest.mark.fault(3)
async def test_transient_errors_are_retried_to_an_answer(rigged: Any) -> None:
    """After two failures the answer to the third request is returned."""
    failing = said(500, "InternalServerException")
    async with rigged() as rig:
        rig.upstream.lie(ID, failing, failing, http(true_run(ID)))
        run = await rig.run(ID)
        assert THRICE == rig.upstream.asked[ID]

    assert ID == run.id


@pytest.mark.fault(3)
async def test_retries_end_at_a_permanent_error(rigged: Any) -> None:
    """A permanent error ends the attempts, even if more are allowed."""
    async with rigged() as rig:
        rig.upstream.lie(ID, said(500), said(404, "ResourceNotFoundException"))
        await rig.refusal(ID, Reason.RUN_NOT_FOUND)
        assert 2 == rig.upstream.asked[ID]


@pytest.mark.fault(4)
@pytest.mark.parametrize(
    ("retry_after", "shortest_ms", "longest_ms"),
    [
        pytest.param("1500", 1500, 1500, id="honoured"),
        pytest.param("-1", 50, 1000, id="negative"),
        pytest.param("abc", 50, 1000, id="no-number"),
        pytest.param("1e4", 50, 1000, id="exponent"),
        pytest.param("999999999", 5000, 6000, id="clamped"),
        pytest.param("9" * 400, 5000, 6000, id="of-any-length"),
    ],
)
async def test_retry_delay_is_aws_wait_within_limits(
    rigged: Any, retry_after: str, shortest_ms: int, longest_ms: int
) -> None:
    """RetryInfo has AWS's wait, unless it is invalid or too long."""
    throttled = said(429, "ThrottlingException", x_amz_retry_after=retry_after)
    async with rigged(GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as rig:
        rig.upstream.lie(ID, throttled)
        refusal = await rig.refusal(ID, Reason.UPSTREAM_THROTTLED)
        assert 1 == rig.upstream.asked[ID]

    delay_ms = refusal.details["RetryInfo"].retry_delay.ToMilliseconds()
    assert shortest_ms <= delay_ms <= longest_ms


@pytest.mark.fault(4)
async def test_retry_waits_as_long_as_aws_asks(rigged: Any) -> None:
    """The next attempt is made no sooner than AWS asks."""
    throttled = said(429, "ThrottlingException", x_amz_retry_after="1100")
    async with rigged() as rig:
        rig.upstream.lie(ID, throttled, http(true_run(ID)))
        await rig.run(ID)
        first, second = [each.at for each in rig.upstream.requests if each.run_id == ID]

    assert second - first >= 1.1


SENTENCE = (
    f"User: {ARN} is not authorized to perform: omics:GetRun on resource:"
    " arn:aws:omics:us-east-1:123456789012:run/2000001 because no"
    f" identity-based policy allows the omics:GetRun action {CANARY}"
)
CODE = "AccessDeniedException"


@pytest.mark.guarantee("upstream-responses")
@pytest.mark.fault(6)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(said(403, CODE, SENTENCE), id="code-in-header"),
        *(
            pytest.param(
                http(json.dumps({"__type": CODE, member: SENTENCE}), status=403),
                id=f"{member}-beside-code",
            )
            for member in ("message", "Message")
        ),
    ],
)
async def test_aws_message_is_neither_sent_nor_logged(
    rigged: Any, answer: bytes
) -> None:
    """AWS's message, with its ARNs and account, is in no answer and in no log line."""
    async with rigged() as rig:
        rig.upstream.lie(ID, answer)
        refusal = await rig.refusal(ID, Reason.UPSTREAM_ACCESS_DENIED)
        assert 1 == rig.upstream.asked[ID]
        await until(lambda: not rig.served.in_flight)  # then it is logged
        log = str(rig.log)

    assert set(ALWAYS) == set(refusal.details)
    assert Reason.UPSTREAM_ACCESS_DENIED.value.message == refusal.message
    assert ID in log
    assert [] == [text for text in (CANARY, "arn:", "123456789012") if text in log]
