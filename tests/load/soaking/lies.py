"""The faults that an answer may have, each with the reasons that it may become.

AWS's codes are written here independently of the gateway's own table.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from testkit.builders import http
from testkit.lying_upstream import ARN, CANARY, CLOSE, HANG, RESET, Drip, Part, Wait

ATTEMPT_SECONDS = 1.0  # the gateway's attempt timeout here
CAP_BYTES = 262_144  # of a body, here
OVER_CAP = b" " * (CAP_BYTES + 1)
DRIP_SECONDS = 0.1  # between two bytes
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

CODES: Mapping[str, str] = {  # AWS's codes, by the reasons that they become
    "UPSTREAM_VALIDATION": (
        "ValidationException ValidationError InvalidParameterValue MissingParameter"
    ),
    "UPSTREAM_QUOTA_EXCEEDED": "ServiceQuotaExceededException",
    "UPSTREAM_ACCESS_DENIED": "AccessDeniedException AccessDenied NotAuthorized",
    "RUN_NOT_FOUND": "ResourceNotFoundException",
    "RUN_CONFLICT": "ConflictException",
    "UPSTREAM_TIMEOUT": "RequestTimeoutException RequestTimeout",
    "UPSTREAM_THROTTLED": (
        "ThrottlingException Throttling TooManyRequestsException SlowDown"
        " RequestLimitExceeded LimitExceededException"
    ),
    "UPSTREAM_INTERNAL": "InternalServerException InternalFailure InternalServerError",
    "UPSTREAM_UNAVAILABLE": "ServiceUnavailable ServiceUnavailableException",
    "UPSTREAM_CONNECTION": "RequestAborted RequestAbortedException",
    "GATEWAY_CREDENTIALS_EXPIRED": "ExpiredToken ExpiredTokenException",
    "GATEWAY_CLOCK_SKEW": "RequestExpired RequestTimeTooSkewed RequestInTheFuture",
    "GATEWAY_CREDENTIALS_INVALID": "UnrecognizedClientException InvalidClientTokenId",
    "GATEWAY_SIGNATURE_REJECTED": "InvalidSignatureException SignatureDoesNotMatch",
    "GATEWAY_ACCOUNT_NOT_ENABLED": "OptInRequired SubscriptionRequiredException",
    "GATEWAY_REQUEST_REJECTED": "UnknownOperationException SerializationException",
    "UPSTREAM_UNRECOGNIZED": "TeapotException",
}
STATUSES = {  # of the eight errors of GetRun
    "UPSTREAM_VALIDATION": 400,
    "UPSTREAM_QUOTA_EXCEEDED": 402,
    "UPSTREAM_ACCESS_DENIED": 403,
    "RUN_NOT_FOUND": 404,
    "UPSTREAM_TIMEOUT": 408,
    "RUN_CONFLICT": 409,
    "UPSTREAM_THROTTLED": 429,
    "UPSTREAM_INTERNAL": 500,
}


@dataclass(frozen=True, slots=True)
class Lie:
    """A response that is sent in place of the truth."""

    fault: int  # its number in the table of faults
    parts: Sequence[Part]
    reasons: frozenset[str]
    request_id: str = ""  # AWS's; empty if the answer has none
    lasts_seconds: float = 0.0


def lie(random: Random, run_id: str, text: str) -> Lie:
    """Return a random fault for an answer about a run whose truth is `text`."""
    makers = list(WEIGHTS)
    (make,) = random.choices(makers, weights=[WEIGHTS[each] for each in makers])
    return make(random, run_id, text)


def an_error(random: Random, _run_id: str, _text: str) -> Lie:
    """Return one of AWS's errors, in one of its spellings."""
    reason = random.choice(list(CODES))
    code = random.choice(CODES[reason].split())
    status = STATUSES.get(reason, 400)
    if random.random() < 0.2 and reason != "UPSTREAM_UNRECOGNIZED":
        status = random.choice((200, 400, 403, 404, 500, 503))  # the code decides
    spelled = random.choice(
        (code, code, f"com.amazonaws.omics#{code}", f"{code}:http://internal.amazon/")
    )
    body = {"message": f"User: {ARN} is not authorized, {CANARY}"}
    headers = {"x-amzn-requestid": _id(random)}
    # In a success a bare `code` could be a new member.
    place = random.choice(("header", "__type") + (("code",) if status != 200 else ()))
    if place == "header":
        name = random.choice(("x-amzn-errortype", "X-Amzn-ErrorType"))
        headers[name] = spelled
    else:
        body[place] = spelled
    if reason == "UPSTREAM_THROTTLED" and random.random() < 0.5:
        retry_after = random.choice(("1500", "-1", "abc", "999999999"))
        headers["x-amz-retry-after"] = retry_after
    fault = 4 if "x-amz-retry-after" in headers else 2 if spelled != code else 1
    return Lie(
        fault=fault,
        parts=(http(json.dumps(body), status=status, **headers),),
        reasons=frozenset((reason,)),
        request_id=headers["x-amzn-requestid"],
    )


def a_page(random: Random, _run_id: str, _text: str) -> Lie:
    """Return a proxy's page."""
    status = random.choice((401, 403, 404, 407, 408, 429, 502, 503))
    page = f"<html><h1>{CANARY}</h1>{ARN}</html>"
    return _by_status(5, status, http(page, status=status, content_type="text/html"))


def an_empty_error(random: Random, _run_id: str, _text: str) -> Lie:
    """Return an error whose body is empty, or can't be parsed."""
    status = random.choice((400, 403, 404, 500, 503))
    body = b'{"__type": "ResourceNotFoundException"}'
    compressed = http(gzip.compress(body), status=status, content_encoding="gzip")
    bodies = (b"", b"[]", b"null", b'"x"', b'{"__type":5}', b'{"__type":"\xff"}')
    plain = http(random.choice((*bodies, OVER_CAP)), status=status)
    answer = compressed if random.random() < 0.2 else plain
    return _by_status(7, status, answer)


def _by_status(fault: int, status: int, answer: bytes) -> Lie:
    bare = {408: "UPSTREAM_TIMEOUT", 429: "UPSTREAM_THROTTLED"}
    other = "UPSTREAM_UNAVAILABLE" if status >= 500 else "UPSTREAM_UNRECOGNIZED"
    return Lie(fault, (answer,), frozenset((bare.get(status, other),)))


def a_redirect(random: Random, run_id: str, _text: str) -> Lie:
    """Return a redirect to this upstream, which records a stray if it is followed."""
    status = random.choice((301, 302, 303, 304, 307, 308))
    answer = http(status=status, location=f"/elsewhere/{run_id}")
    return Lie(8, (answer,), frozenset(("UPSTREAM_UNEXPECTED_REDIRECT",)))


def a_false_success(random: Random, _run_id: str, text: str) -> Lie:
    """Return a 200 that isn't one JSON object."""
    bodies = ("", f"<html>{CANARY}</html>", text[:-1], "[]", "null", f"{text}x")
    odd = random.choice((*bodies, f"\ufeff{text}", '{"a": NaN}', f"{'[' * 10_000}"))
    return Lie(10, (http(odd),), frozenset(("UPSTREAM_MALFORMED_RESPONSE",)))


def a_broken_body(random: Random, _run_id: str, text: str) -> Lie:
    """Return a body that is cut off, too large or compressed."""
    body = text.encode()
    end = random.choice((CLOSE, RESET))
    longer = HEAD + b"content-length: %d\r\n\r\n" % (len(body) + 9)
    declared = HEAD + b"content-length: 999999999\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    compressed = http(gzip.compress(body), content_encoding="gzip")
    parts, reason = random.choice(
        (
            ((longer + body, Wait(0.01), end), "UPSTREAM_CONNECTION"),
            ((CHUNKED + b"5\r\n{   \r\n", Wait(0.01), end), "UPSTREAM_CONNECTION"),
            ((declared, HANG), "UPSTREAM_RESPONSE_TOO_LARGE"),
            ((CHUNKED, *(chunk,) * 9, HANG), "UPSTREAM_RESPONSE_TOO_LARGE"),
            ((http(OVER_CAP),), "UPSTREAM_RESPONSE_TOO_LARGE"),
            ((compressed,), "UPSTREAM_MALFORMED_RESPONSE"),
        )
    )
    return Lie(11, parts, frozenset((reason,)))


def another_run(random: Random, run_id: str, text: str) -> Lie:
    """Return an answer about another run, or without an id."""
    other = json.dumps(str(int(run_id) + 1))
    body = random.choice(
        (f'{text[:-1]}, "id": {other}}}', f'{text[:-1]}, "id": {run_id}}}', "{}")
    )
    return Lie(12, (http(body),), frozenset(("UPSTREAM_IDENTITY_MISMATCH",)))


def a_slow_response(random: Random, _run_id: str, text: str) -> Lie:
    """Return a response that is very slow, or never begins."""
    answer = http(text, x_filler="." * 50)
    head, _, body = answer.partition(b"\r\n\r\n")
    head += b"\r\n\r\n"
    parts = random.choice(
        (
            (HANG,),
            (Drip(answer, DRIP_SECONDS), HANG),
            (head, Drip(body, DRIP_SECONDS), HANG),
            (head, HANG),
        )
    )
    timeout = frozenset(("UPSTREAM_TIMEOUT",))
    return Lie(13, parts, timeout, lasts_seconds=ATTEMPT_SECONDS)


def an_endless_error(random: Random, _run_id: str, _text: str) -> Lie:
    """Return an error named in the header, whose body never ends."""
    head = (
        b"HTTP/1.1 500 Said\r\nx-amzn-errortype: InternalServerException\r\n"
        b"content-length: 99\r\n\r\n"
    )
    parts = random.choice(((head, HANG), (head, Drip(b" " * 99, DRIP_SECONDS), HANG)))
    internal = frozenset(("UPSTREAM_INTERNAL",))
    return Lie(13, parts, internal, lasts_seconds=ATTEMPT_SECONDS)


def a_closed_connection(random: Random, _run_id: str, _text: str) -> Lie:
    """Close the connection at the request; a kept-alive one is requested again."""
    end = random.choice((CLOSE, RESET))
    return Lie(14, (end,), frozenset(("UPSTREAM_CONNECTION",)))


WEIGHTS: Mapping[Callable[[Random, str, str], Lie], int] = {
    an_error: 34,
    a_page: 10,
    an_empty_error: 8,
    a_redirect: 4,
    a_false_success: 10,
    a_broken_body: 12,
    another_run: 6,
    a_slow_response: 6,
    an_endless_error: 2,
    a_closed_connection: 8,
}


def _id(random: Random) -> str:
    return f"{random.getrandbits(128):032x}"
