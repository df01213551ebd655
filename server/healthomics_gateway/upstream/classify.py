"""Classifies failures of AWS and of the transport: the tables of codes.

AWS's error code decides. The HTTP status decides only if the answer has no known
code: a bare 404 may come from a proxy, so it doesn't mean "run not found".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from healthomics_gateway.errors.exceptions import Again, AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.exact_json import parse_object
from healthomics_gateway.upstream.reply import Failure, Reply

ERROR_HEADER = "x-amzn-errortype"
SUCCESS, REDIRECT, CLIENT_ERROR, SERVER_ERROR = 2, 3, 4, 5  # hundreds of the status

SAFE_CODE = re.compile(r"[A-Za-z0-9]{1,64}")
_SAFE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reason of a failure, and whether the gateway makes another attempt."""

    reason: Reason
    again: Again


FAILURES: Mapping[Failure, Verdict] = {
    Failure.CONNECTION: Verdict(Reason.UPSTREAM_CONNECTION, Again.YES),
    Failure.DNS: Verdict(Reason.UPSTREAM_DNS, Again.YES),
    Failure.TLS: Verdict(Reason.UPSTREAM_TLS, Again.YES),
    Failure.TLS_UNTRUSTED: Verdict(Reason.UPSTREAM_TLS_UNTRUSTED, Again.NO),
    Failure.TIMEOUT: Verdict(Reason.UPSTREAM_TIMEOUT, Again.YES),
    Failure.TOO_LARGE: Verdict(Reason.UPSTREAM_RESPONSE_TOO_LARGE, Again.NO),
    Failure.COMPRESSED: Verdict(Reason.UPSTREAM_MALFORMED_RESPONSE, Again.NO),
    Failure.MALFORMED: Verdict(Reason.UPSTREAM_MALFORMED_RESPONSE, Again.ONCE),
    Failure.ANOTHER_RUN: Verdict(Reason.UPSTREAM_IDENTITY_MISMATCH, Again.ONCE),
}

# What fails after HealthOmics has begun to answer.
ANSWERED = frozenset(
    {Failure.TOO_LARGE, Failure.COMPRESSED, Failure.MALFORMED, Failure.ANOTHER_RUN}
)

_THROTTLED = Verdict(Reason.UPSTREAM_THROTTLED, Again.YES)
_TIMED_OUT = Verdict(Reason.UPSTREAM_TIMEOUT, Again.YES)
_UNAVAILABLE = Verdict(Reason.UPSTREAM_UNAVAILABLE, Again.YES)

# The codes that GetRun documents, those common to all AWS actions, and the spellings
# of both that botocore knows.
CODES: Mapping[str, Verdict] = {
    code: verdict
    for verdict, codes in (
        (
            Verdict(Reason.UPSTREAM_VALIDATION, Again.NO),
            (
                "ValidationException ValidationError InvalidParameterValue"
                " InvalidParameterCombination MissingParameter"
            ),
        ),
        (
            Verdict(Reason.UPSTREAM_QUOTA_EXCEEDED, Again.NO),
            "ServiceQuotaExceededException",
        ),
        (
            Verdict(Reason.UPSTREAM_ACCESS_DENIED, Again.NO),
            "AccessDeniedException AccessDenied NotAuthorized",
        ),
        (Verdict(Reason.RUN_NOT_FOUND, Again.NO), "ResourceNotFoundException"),
        (_TIMED_OUT, "RequestTimeoutException RequestTimeout"),
        (Verdict(Reason.RUN_CONFLICT, Again.NO), "ConflictException"),
        (
            _THROTTLED,
            (
                "ThrottlingException Throttling ThrottledException RequestThrottled"
                " RequestThrottledException TooManyRequestsException"
                " ProvisionedThroughputExceededException RequestLimitExceeded"
                " BandwidthLimitExceeded LimitExceededException SlowDown"
                " TransactionInProgressException PriorRequestNotComplete"
                " EC2ThrottledException"
            ),
        ),
        (
            Verdict(Reason.UPSTREAM_INTERNAL, Again.YES),
            "InternalServerException InternalFailure InternalServerError InternalError",
        ),
        (_UNAVAILABLE, "ServiceUnavailable ServiceUnavailableException"),
        (
            Verdict(Reason.UPSTREAM_CONNECTION, Again.YES),
            "RequestAborted RequestAbortedException",
        ),
        (
            Verdict(Reason.GATEWAY_CREDENTIALS_EXPIRED, Again.ONCE),
            "ExpiredToken ExpiredTokenException",
        ),
        (
            Verdict(Reason.GATEWAY_CLOCK_SKEW, Again.ONCE),
            "RequestExpired RequestTimeTooSkewed RequestInTheFuture",
        ),
        (
            Verdict(Reason.GATEWAY_CREDENTIALS_INVALID, Again.ONCE),
            (
                "UnrecognizedClientException InvalidClientTokenId"
                " MissingAuthenticationToken MissingAuthenticationTokenException"
            ),
        ),
        (
            # HealthOmics tries again if AWS's clock differs from this machine's.
            Verdict(Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO),
            (
                "InvalidSignatureException SignatureDoesNotMatch"
                " IncompleteSignature IncompleteSignatureException"
            ),
        ),
        (
            Verdict(Reason.GATEWAY_ACCOUNT_NOT_ENABLED, Again.NO),
            "OptInRequired SubscriptionRequiredException",
        ),
        (
            Verdict(Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
            (
                "UnknownOperationException InvalidAction MissingAction"
                " MalformedQueryString InvalidQueryParameter"
                " MalformedHttpRequestException RequestEntityTooLargeException"
                " SerializationException"
            ),
        ),
    )
    for code in codes.split()
}


def error_of_failure(failure: Failure, reply: Reply | None = None) -> GatewayError:
    """Return the error for `failure`, with the facts that `reply` has of it."""
    return _error(FAILURES[failure], reply=reply)


def error_of_code(code: str, reply: Reply) -> GatewayError:
    """Return the error for AWS's `code`, in any of its spellings, from `reply`."""
    return _refusal(bare_code(code), reply, _members(reply.body))


def names_error(headers: Mapping[str, str]) -> bool:
    """Return whether the headers name AWS's error, so that no body is needed."""
    return bool(bare_code(headers.get(ERROR_HEADER, "")))


def body_of(reply: Reply) -> bytes:
    """Return the body of a successful reply.

    Raises GatewayError for any other reply, or if the body could not be read.
    """
    code = bare_code(reply.headers.get(ERROR_HEADER, ""))
    family = reply.status // 100
    if family == REDIRECT:
        verdict = Verdict(Reason.UPSTREAM_UNEXPECTED_REDIRECT, Again.NO)
        raise _error(verdict, reply=reply)
    if family == SUCCESS and not code:
        if isinstance(reply.body, Failure):
            raise error_of_failure(reply.body, reply)
        return reply.body
    members = _members(reply.body)
    for name in ("__type", "code"):
        code = code or bare_code(members.get(name))
    raise _refusal(code, reply, members)


def _members(body: bytes | Failure) -> dict[str, Any]:
    if isinstance(body, Failure):
        return {}
    try:
        return dict(parse_object(body.decode()))
    except ValueError:
        return {}


def bare_code(text: Any) -> str:
    """Return `Code` of `ns#Code:http://…`, or "" if `text` isn't a string."""
    if type(text) is not str:  # exact_json.Number is a subclass of str
        return ""
    return text.partition(":")[0].rpartition("#")[2].strip()


def _refusal(code: str, reply: Reply, members: Mapping[str, Any]) -> GatewayError:
    """Return the error for a bare code; `members` are those of the body."""
    message = members.get("message") or members.get("Message")
    debug = message if type(message) is str else ""
    verdict = _verdict(reply.status, code)
    return _error(verdict, code=code, reply=reply, debug=debug)


def _verdict(status: int, code: str) -> Verdict:
    if code in CODES:
        return CODES[code]
    if status // 100 == SERVER_ERROR:
        return _UNAVAILABLE
    if code:
        return Verdict(Reason.UPSTREAM_UNRECOGNIZED, Again.NO)
    if status // 100 == CLIENT_ERROR:
        bare = {408: _TIMED_OUT, 429: _THROTTLED}
        return bare.get(status, Verdict(Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE))
    return FAILURES[Failure.MALFORMED]


def _error(
    verdict: Verdict, *, code: str = "", reply: Reply | None = None, debug: str = ""
) -> GatewayError:
    answer, aws_retry_after_seconds = None, None
    if reply:
        answer = answer_of(reply, code=code)
        wait_ms = reply.headers.get("x-amz-retry-after", "")
        if _DIGITS.fullmatch(wait_ms):
            aws_retry_after_seconds = float(wait_ms) / 1000  # int() limits the digits
    return GatewayError(
        verdict.reason,
        again=verdict.again,
        answer=answer,
        aws_retry_after_seconds=aws_retry_after_seconds,
        debug=debug,
    )


def answer_of(reply: Reply, *, code: str = "") -> AwsAnswer:
    """Return the facts of a reply, without those that may hold arbitrary text."""
    request_id = reply.headers.get("x-amzn-requestid", "")
    return AwsAnswer(
        request_id if _SAFE_ID.fullmatch(request_id) else "",
        reply.status,
        code if SAFE_CODE.fullmatch(code) else "",
    )
