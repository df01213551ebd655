"""Tests of the classification of failures: each code and failure has its row."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from healthomics_gateway.errors.exceptions import Again, AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.errors.status import MAX_STATUS_BYTES, status_of
from healthomics_gateway.upstream.classify import (
    CODES,
    FAILURES,
    answer_of,
    body_of,
    error_of_code,
    error_of_failure,
    names_error,
)
from healthomics_gateway.upstream.reply import Failure, Reply

# AWS's codes, the reason of each, and whether the gateway tries again.
ROWS = [
    # The eight of GetRun.
    ("ValidationException", Reason.UPSTREAM_VALIDATION, Again.NO),
    ("ServiceQuotaExceededException", Reason.UPSTREAM_QUOTA_EXCEEDED, Again.NO),
    ("AccessDeniedException", Reason.UPSTREAM_ACCESS_DENIED, Again.NO),
    ("ResourceNotFoundException", Reason.RUN_NOT_FOUND, Again.NO),
    ("RequestTimeoutException", Reason.UPSTREAM_TIMEOUT, Again.YES),
    ("ConflictException", Reason.RUN_CONFLICT, Again.NO),
    ("ThrottlingException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("InternalServerException", Reason.UPSTREAM_INTERNAL, Again.YES),
    # The errors common to all actions.
    ("AccessDenied", Reason.UPSTREAM_ACCESS_DENIED, Again.NO),
    ("NotAuthorized", Reason.UPSTREAM_ACCESS_DENIED, Again.NO),
    ("ExpiredToken", Reason.GATEWAY_CREDENTIALS_EXPIRED, Again.ONCE),
    ("ExpiredTokenException", Reason.GATEWAY_CREDENTIALS_EXPIRED, Again.ONCE),
    ("RequestExpired", Reason.GATEWAY_CLOCK_SKEW, Again.ONCE),
    ("RequestTimeTooSkewed", Reason.GATEWAY_CLOCK_SKEW, Again.ONCE),
    ("RequestInTheFuture", Reason.GATEWAY_CLOCK_SKEW, Again.ONCE),
    ("UnrecognizedClientException", Reason.GATEWAY_CREDENTIALS_INVALID, Again.ONCE),
    ("InvalidClientTokenId", Reason.GATEWAY_CREDENTIALS_INVALID, Again.ONCE),
    ("MissingAuthenticationToken", Reason.GATEWAY_CREDENTIALS_INVALID, Again.ONCE),
    (
        "MissingAuthenticationTokenException",
        Reason.GATEWAY_CREDENTIALS_INVALID,
        Again.ONCE,
    ),
    ("InvalidSignatureException", Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO),
    ("SignatureDoesNotMatch", Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO),
    ("IncompleteSignature", Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO),
    ("IncompleteSignatureException", Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO),
    ("OptInRequired", Reason.GATEWAY_ACCOUNT_NOT_ENABLED, Again.NO),
    ("SubscriptionRequiredException", Reason.GATEWAY_ACCOUNT_NOT_ENABLED, Again.NO),
    ("InternalFailure", Reason.UPSTREAM_INTERNAL, Again.YES),
    ("InternalServerError", Reason.UPSTREAM_INTERNAL, Again.YES),
    ("InternalError", Reason.UPSTREAM_INTERNAL, Again.YES),
    ("ServiceUnavailable", Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    ("ServiceUnavailableException", Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    ("Throttling", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("ThrottledException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("RequestThrottled", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("RequestThrottledException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("TooManyRequestsException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("ProvisionedThroughputExceededException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("RequestLimitExceeded", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("BandwidthLimitExceeded", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("LimitExceededException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("SlowDown", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("TransactionInProgressException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("PriorRequestNotComplete", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("EC2ThrottledException", Reason.UPSTREAM_THROTTLED, Again.YES),
    ("RequestTimeout", Reason.UPSTREAM_TIMEOUT, Again.YES),
    ("RequestAborted", Reason.UPSTREAM_CONNECTION, Again.YES),
    ("RequestAbortedException", Reason.UPSTREAM_CONNECTION, Again.YES),
    ("ValidationError", Reason.UPSTREAM_VALIDATION, Again.NO),
    ("InvalidParameterValue", Reason.UPSTREAM_VALIDATION, Again.NO),
    ("InvalidParameterCombination", Reason.UPSTREAM_VALIDATION, Again.NO),
    ("MissingParameter", Reason.UPSTREAM_VALIDATION, Again.NO),
    ("UnknownOperationException", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("InvalidAction", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("MissingAction", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("MalformedQueryString", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("InvalidQueryParameter", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("MalformedHttpRequestException", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("RequestEntityTooLargeException", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
    ("SerializationException", Reason.GATEWAY_REQUEST_REJECTED, Again.NO),
]
BARE = [  # a status without a code that is known
    (400, Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE),
    (401, Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE),
    (403, Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE),
    (404, Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE),
    (407, Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE),
    (408, Reason.UPSTREAM_TIMEOUT, Again.YES),
    (429, Reason.UPSTREAM_THROTTLED, Again.YES),
    (499, Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE),
    (500, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    (502, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    (503, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    (504, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    (599, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
]
MISHAPS = [
    (Failure.CONNECTION, Reason.UPSTREAM_CONNECTION, Again.YES),
    (Failure.DNS, Reason.UPSTREAM_DNS, Again.YES),
    (Failure.TLS, Reason.UPSTREAM_TLS, Again.YES),
    (Failure.TLS_UNTRUSTED, Reason.UPSTREAM_TLS_UNTRUSTED, Again.NO),
    (Failure.TIMEOUT, Reason.UPSTREAM_TIMEOUT, Again.YES),
    (Failure.TOO_LARGE, Reason.UPSTREAM_RESPONSE_TOO_LARGE, Again.NO),
    (Failure.COMPRESSED, Reason.UPSTREAM_MALFORMED_RESPONSE, Again.NO),
    (Failure.MALFORMED, Reason.UPSTREAM_MALFORMED_RESPONSE, Again.ONCE),
    (Failure.ANOTHER_RUN, Reason.UPSTREAM_IDENTITY_MISMATCH, Again.ONCE),
]
THROTTLED = (Reason.UPSTREAM_THROTTLED, Again.YES)


def reply(status: int = 400, body: Any = b"", **headers: str) -> Reply:
    """Return a reply; header names have `_` for `-`, and a body is bytes or JSON."""
    if not isinstance(body, bytes | Failure):
        body = json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, CIMultiDict(named), body)


def error_of(answer: Reply) -> GatewayError:
    """Return the error that `body_of` raises for the reply."""
    with pytest.raises(GatewayError) as caught:
        body_of(answer)
    return caught.value


def row_of(answer: Reply) -> tuple[Reason, Again]:
    """Return the reason and the retry decision that a reply is classified as."""
    error = error_of(answer)
    return error.reason, error.again


@pytest.mark.parametrize(
    ("code", "reason", "again"), [pytest.param(*row, id=row[0]) for row in ROWS]
)
def test_code_decides_whatever_the_status(
    code: str, reason: Reason, again: Again
) -> None:
    """A known code decides under every status, also under a successful one."""
    for status in (200, 206, 400, 403, 404, 408, 429, 500, 503):
        answer = reply(status, {"message": "Said."}, x_amzn_errortype=code)
        assert (reason, again) == row_of(answer)
        assert code == error_of(answer).answer.error_code


def test_tables_have_no_row_that_these_tests_lack() -> None:
    """Every code and every failure that is classified has its row in this file."""
    assert {code for code, *_ in ROWS} == CODES.keys()
    assert {failure for failure, *_ in MISHAPS} == FAILURES.keys() == set(Failure)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ThrottlingException", id="bare"),
        pytest.param("aws.omics#ThrottlingException", id="namespace"),
        pytest.param("a#b#ThrottlingException", id="two-namespaces"),
        pytest.param("ThrottlingException:http://aws.example/doc/", id="address"),
        pytest.param("aws.omics#ThrottlingException:http://a.example/#b", id="both"),
        pytest.param(" ThrottlingException ", id="spaces"),
    ],
)
def test_spellings_of_a_code_all_mean_the_same(text: str) -> None:
    """The namespace and the address around a code are ignored, wherever the code is."""
    answers = [
        reply(400, b"{}", x_amzn_errortype=text),
        reply(400, b"{}", X_Amzn_ErrorType=text),
        reply(400, b"<html>", X_AMZN_ERRORTYPE=text),
        reply(400, {"__type": text, "message": "Rate exceeded"}),
        reply(400, {"code": text, "Message": "Rate exceeded"}),
    ]

    for answer in answers:
        assert THROTTLED == row_of(answer)
        assert "ThrottlingException" == error_of(answer).answer.error_code


def test_code_of_a_success_can_come_from_the_body_as_aws_spells_it() -> None:
    """An error type in the body of a successful response is classified by its code."""
    answer = reply(200, {"__type": "ns#ThrottlingException", "message": "Too fast."})
    error = error_of_code("ns#ThrottlingException", answer)

    assert THROTTLED == (error.reason, error.again)
    assert "ThrottlingException" == error.answer.error_code
    assert "Too fast." == error.debug


def test_header_beats_the_body() -> None:
    """If header and body name different codes, the header's decides."""
    body = {"__type": "AccessDeniedException", "code": "ConflictException"}

    assert THROTTLED == row_of(reply(403, body, x_amzn_errortype="Throttling"))


def test_unknown_code_of_the_header_beats_a_known_one_of_the_body() -> None:
    """An unknown code in the header isn't overruled by a known one in the body."""
    answer = reply(404, {"__type": "ResourceNotFoundException"}, x_amzn_errortype="Odd")

    assert (Reason.UPSTREAM_UNRECOGNIZED, Again.NO) == row_of(answer)


def test_type_of_the_body_beats_its_code() -> None:
    """If the body has a `__type` and a `code`, `__type` decides."""
    body = {"code": "ConflictException", "__type": "ThrottlingException"}

    assert THROTTLED == row_of(reply(409, body))


@pytest.mark.parametrize("text", ["", " ", "#", "ns#", ":http://a.example/", "ns#:x"])
def test_header_without_a_code_leaves_it_to_the_body(text: str) -> None:
    """If the header holds no code, the body's code decides."""
    assert THROTTLED == row_of(
        reply(400, {"__type": "ThrottlingException"}, x_amzn_errortype=text)
    )
    assert not names_error(CIMultiDict({"x-amzn-errortype": text}))


def test_empty_type_leaves_it_to_the_code() -> None:
    """A `__type` without a code is ignored."""
    assert THROTTLED == row_of(reply(400, {"__type": "ns#", "code": "Throttling"}))


@pytest.mark.parametrize(
    ("headers", "is_named"),
    [
        pytest.param({"X-Amzn-ErrorType": "Odd"}, True, id="a-code"),
        pytest.param({"x-amzn-errortype": "ns#Odd:http://a"}, True, id="around-it"),
        pytest.param({"x-amzn-error": "Odd"}, False, id="another-header"),
        pytest.param({}, False, id="no-header"),
    ],
)
def test_error_is_named_by_its_header_alone(
    headers: dict[str, str],
    is_named: bool,  # noqa: FBT001  # a parameter of the table above
) -> None:
    """`names_error` returns whether the headers alone name the error."""
    assert is_named == names_error(CIMultiDict(headers))


@pytest.mark.parametrize(
    ("status", "reason", "again"),
    [
        (200, Reason.UPSTREAM_UNRECOGNIZED, Again.NO),
        (400, Reason.UPSTREAM_UNRECOGNIZED, Again.NO),
        (404, Reason.UPSTREAM_UNRECOGNIZED, Again.NO),
        (408, Reason.UPSTREAM_UNRECOGNIZED, Again.NO),
        (429, Reason.UPSTREAM_UNRECOGNIZED, Again.NO),
        (500, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
        (503, Reason.UPSTREAM_UNAVAILABLE, Again.YES),
    ],
)
def test_unknown_code_is_unrecognized_below_500_and_unavailable_from_there(
    status: int, reason: Reason, again: Again
) -> None:
    """A status below 500 isn't classified by itself if the code is unknown."""
    for code in ("BrandNewException", "throttlingexception", "404"):
        assert (reason, again) == row_of(reply(status, x_amzn_errortype=code))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>ThrottlingException: 404 Not Found</html>", id="html"),
        pytest.param([], id="list"),
        pytest.param(None, id="null"),
        pytest.param("ThrottlingException", id="text"),
        pytest.param(5, id="number"),
        pytest.param({}, id="nothing-in-it"),
        pytest.param({"__type": 5}, id="type-is-a-number"),
        pytest.param({"__type": ["ThrottlingException"]}, id="type-is-a-list"),
        pytest.param({"code": 429, "__type": None}, id="code-is-a-number"),
        pytest.param({"Code": "ThrottlingException"}, id="another-member"),
        pytest.param(b'{"__type":"ThrottlingException\xff"}', id="bad-utf-8"),
        pytest.param(b'{"__type":"ThrottlingException"', id="cut"),
        pytest.param(b'{"__type":"ThrottlingException"}}', id="more-behind-it"),
        pytest.param(b'\xef\xbb\xbf{"__type":"Throttling"}', id="bom"),
        pytest.param(b'{"__type":"Throttling","a":NaN}', id="nan"),
        pytest.param(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="too-deep"),
        pytest.param(Failure.TOO_LARGE, id="too-large"),
        pytest.param(Failure.COMPRESSED, id="compressed"),
        pytest.param(Failure.CONNECTION, id="cut-off"),
    ],
)
def test_body_without_a_code_leaves_it_to_the_status(body: Any) -> None:
    """An error body without a code is classified by its status, never as AWS's."""
    for status, reason, again in BARE:
        error = error_of(reply(status, body))

        assert (reason, again) == (error.reason, error.again)
        assert AwsAnswer("", status) == error.answer


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("failure", list(Failure))
def test_code_in_the_header_decides_whatever_the_body(
    failure: Failure, status: int
) -> None:
    """A body that is too large, compressed or cut doesn't hide the header's code."""
    answer = reply(status, failure, x_amzn_errortype="ConflictException")

    assert (Reason.RUN_CONFLICT, Again.NO) == row_of(answer)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no-header"),
        pytest.param({"x_amzn_errortype": "ThrottlingException"}, id="code"),
    ],
)
def test_redirect_is_unexpected_whatever_code_it_has(
    status: int, headers: dict[str, str]
) -> None:
    """Every 3xx, also 304, is an unexpected redirect, whatever code it has."""
    for body in (b"", {"__type": "AccessDenied"}, Failure.COMPRESSED):
        assert (Reason.UPSTREAM_UNEXPECTED_REDIRECT, Again.NO) == row_of(
            reply(status, body, location="https://elsewhere.example/", **headers)
        )


@pytest.mark.parametrize("status", [101, 199, 600, 999])
def test_status_that_is_neither_success_nor_error_is_malformed(status: int) -> None:
    """A status below 200 or above 599 is a malformed response."""
    assert (Reason.UPSTREAM_MALFORMED_RESPONSE, Again.ONCE) == row_of(
        reply(status, b"{}")
    )


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_returns_the_body(status: int) -> None:
    """The body of any 2xx is returned unparsed."""
    body = b'{"code": "ThrottlingException", "__type": "Throttling"}\xff'

    assert body == body_of(reply(status, body))


@pytest.mark.parametrize(("failure", "reason", "again"), MISHAPS)
def test_failure_has_its_row_with_and_without_a_reply(
    failure: Failure, reason: Reason, again: Again
) -> None:
    """A failure is classified by its row, with the facts of its reply, if any."""
    without = error_of_failure(failure)
    assert (reason, again, None) == (without.reason, without.again, without.answer)

    of_body = error_of(reply(200, failure, x_amzn_requestid="id-1"))
    assert (reason, again) == (of_body.reason, of_body.again)
    assert AwsAnswer("id-1", 200) == of_body.answer


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("1500", 1.5, id="1500"),
        pytest.param("0", 0.0, id="none"),
        pytest.param("999999999", 999_999.999, id="days"),
        pytest.param("9" * 30, 1e27, id="30-digits"),
        pytest.param("9" * 8000, float("inf"), id="8000-digits"),
        pytest.param("-1", None, id="negative"),
        pytest.param("+1", None, id="sign"),
        pytest.param("abc", None, id="letters"),
        pytest.param("1.5", None, id="fraction"),
        pytest.param("1e3", None, id="exponent"),
        pytest.param("1500ms", None, id="unit"),
        pytest.param("1500\n", None, id="line"),
        pytest.param("\u0661\u0665", None, id="other-digits"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after_is_read_in_milliseconds_or_ignored(
    text: str, seconds: float | None
) -> None:
    """`x-amz-retry-after` is used if it consists of digits, however many."""
    answer = reply(429, x_amz_retry_after=text)

    assert pytest.approx(seconds) == error_of(answer).aws_retry_after_seconds


def test_error_without_retry_after_has_none() -> None:
    """Without `x-amz-retry-after` no wait is requested, not even by `Retry-After`."""
    assert error_of(reply(429, retry_after="7")).aws_retry_after_seconds is None
    assert error_of_failure(Failure.TIMEOUT).aws_retry_after_seconds is None


@pytest.mark.parametrize(
    ("code", "returned"),
    [
        pytest.param("Odd1Exception", "Odd1Exception", id="plain"),
        pytest.param("A" * 64, "A" * 64, id="64"),
        pytest.param("A" * 65, "", id="65"),
        pytest.param("No such run", "", id="spaces"),
        pytest.param("Odd_Exception", "", id="underscore"),
        pytest.param("Ödd", "", id="letters-of-another-alphabet"),
        pytest.param("Odd\r\nException", "", id="lines"),
        pytest.param("arn/aws/iam/123456789012", "", id="slashes"),
    ],
)
def test_code_with_other_characters_is_left_out(code: str, returned: str) -> None:
    """The AWS error code is up to 64 letters and digits, or empty."""
    assert returned == error_of(reply(400, {"__type": code})).answer.error_code


@pytest.mark.parametrize(
    ("request_id", "returned"),
    [
        pytest.param("0a1B-2c", "0a1B-2c", id="plain"),
        pytest.param("a" * 64, "a" * 64, id="64"),
        pytest.param("a" * 65, "", id="65"),
        pytest.param("a b", "", id="space"),
        pytest.param("a\n", "", id="line"),
        pytest.param("<script>", "", id="markup"),
        pytest.param("\udcff", "", id="no-utf-8"),
        pytest.param("", "", id="empty"),
    ],
)
def test_request_id_with_other_characters_is_left_out(
    request_id: str, returned: str
) -> None:
    """The AWS request id is up to 64 letters, digits and hyphens, or empty."""
    answer = reply(200, x_amzn_requestid=request_id)

    assert AwsAnswer(returned, 200) == answer_of(answer)


@pytest.mark.parametrize(
    ("body", "debug"),
    [
        pytest.param({"message": "Denied."}, "Denied.", id="message"),
        pytest.param({"Message": "Denied."}, "Denied.", id="Message"),
        pytest.param({"message": "a", "Message": "b"}, "a", id="both"),
        pytest.param({"message": "", "Message": "b"}, "b", id="empty"),
        pytest.param({"message": 5}, "", id="number"),
        pytest.param({"message": {"a": "b"}}, "", id="object"),
        pytest.param({}, "", id="none"),
        pytest.param(b"Denied.", "", id="no-json"),
        pytest.param(Failure.COMPRESSED, "", id="no-body"),
    ],
)
@pytest.mark.parametrize("status", [200, 403])
def test_debug_text_is_aws_message(status: int, body: Any, debug: str) -> None:
    """AWS's message is kept as debug text, and only there."""
    error = error_of(reply(status, body, x_amzn_errortype="AccessDenied"))

    assert debug == error.debug
    assert not {"Denied.", "a", "b"} & set(error.answer.metadata.values())


TEXT = st.text(st.characters(exclude_categories=()), max_size=80)  # surrogates too
HEADERS = st.dictionaries(
    st.sampled_from(
        ["X-Amzn-ErrorType", "x-amz-retry-after", "x-amzn-requestid", "content-type"]
    ),
    TEXT | st.sampled_from(["Throttling", "ns#ExpiredToken:x", "1500"]),
)
MEMBERS = st.dictionaries(
    st.sampled_from(["__type", "code", "message", "Message", "id"]),
    TEXT
    | st.sampled_from(["ConflictException", "ns#SlowDown:http://a"])
    | st.integers()
    | st.none()
    | st.lists(st.booleans(), max_size=2),
)
BODIES = (
    st.binary(max_size=80)
    | st.sampled_from(list(Failure))
    | MEMBERS.map(lambda members: json.dumps(members).encode())
)


@pytest.mark.guarantee("error-table")
@given(status=st.integers(100, 999), headers=HEADERS, body=BODIES)
@example(status=500, headers={}, body=b'{"__type":' * 100_000)
@settings(max_examples=400, deadline=None)
def test_every_answer_is_a_row_or_a_success(
    status: int, headers: dict[str, str], body: bytes | Failure
) -> None:
    """Any bytes with any status and headers are a row of the table or a success."""
    answer = Reply(status, CIMultiDict(headers), body)
    error = None
    try:
        assert body == body_of(answer)
    except GatewayError as raised:
        error = raised

    if error is None:
        assert 200 <= status <= 299
        return
    assert error.answer
    metadata = error.answer.metadata
    row = status_of(error, metadata=metadata, request_id="1", debug=True)
    assert {"awsErrorCode", "httpStatus", "awsRequestId"} == metadata.keys()
    assert all(value.isascii() for value in metadata.values())
    assert row.ByteSize() <= MAX_STATUS_BYTES
