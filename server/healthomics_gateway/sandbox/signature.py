"""Verifies the SigV4 signature of a request, with the errors of AWS.

botocore recomputes the signature from the received request. So a signature over a
header that botocore never signs (`user-agent`, `expect`, ...) is refused here, although
AWS accepts it.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import CIMultiDictProxy

from healthomics_gateway.sandbox.account import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    SERVICE,
)
from healthomics_gateway.sandbox.errors import AwsError

_TOLERANCE = timedelta(minutes=5)  # between the clocks of the signer and the sandbox
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +"
    r"Credential=(?P<key_id>[^/,\s]+)/(?P<day>[^/,\s]+)/(?P<region>[^/,\s]+)"
    r"/(?P<service>[^/,\s]+)/(?P<terminator>[^/,\s]+) *, *"
    r"SignedHeaders=(?P<signed_headers>[^,\s]+) *, *"
    r"Signature=(?P<signature>[0-9A-Za-z]+)"
)
_CREDENTIALS = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service "
    "documentation for details."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request as received; path and query are percent-encoded."""

    method: str
    path: str
    query: str
    headers: CIMultiDictProxy[str]
    body: bytes


def verify(
    request: ReceivedRequest,
    *,
    now: datetime,
    session_token: str | None,
    service: str = SERVICE,
) -> None:
    """Raise AwsError unless the sandbox's credentials have just signed the request.

    `service` is the signing name of the service that it is for.
    """
    _check_text(request)
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise AwsError(
            "MissingAuthenticationTokenException", "Missing Authentication Token"
        )
    claim = _AUTHORIZATION.fullmatch(authorization)
    if claim is None:
        raise AwsError(
            "IncompleteSignatureException",
            "Authorization header requires 'Credential', 'SignedHeaders' and "
            "'Signature' parameters.",
        )
    _check_identity(claim, request, session_token)
    signed_at = _check_time(request, now)
    _check_scope(claim, signed_at, service)
    _check_coverage(claim, request)
    names = claim["signed_headers"].split(";")
    expected = _signature(request, names, signed_at, service)
    if not hmac.compare_digest(expected, claim["signature"]):
        raise AwsError("InvalidSignatureException", _MISMATCH)


def _check_text(request: ReceivedRequest) -> None:
    """Check that the headers are UTF-8; other bytes can't be signed."""
    try:
        "".join(request.headers.values()).encode()
    except UnicodeEncodeError:
        raise AwsError("InvalidSignatureException", _MISMATCH) from None


def _check_identity(
    claim: re.Match[str], request: ReceivedRequest, session_token: str | None
) -> None:
    """Check the access key and the session token, or that there is none."""
    token = request.headers.get("x-amz-security-token")
    if claim["key_id"] != ACCESS_KEY_ID or token != session_token:
        raise AwsError(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )


def _check_time(request: ReceivedRequest, now: datetime) -> str:
    """Return the time of signing as it was sent; it must be about now.

    The error is InvalidSignatureException, as in AWS's JSON services. Other services
    have others, such as S3's RequestTimeTooSkewed.
    """
    sent = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(sent, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise AwsError(
            "IncompleteSignatureException",
            "Authorization header requires existence of a valid 'X-Amz-Date' header.",
        ) from None
    ours = now.strftime(_TIME_FORMAT)
    if signed_at < now - _TOLERANCE:
        limit = (now - _TOLERANCE).strftime(_TIME_FORMAT)
        raise AwsError(
            "InvalidSignatureException",
            f"Signature expired: {sent} is now earlier than {limit} ({ours} - 5 min.)",
        )
    if signed_at > now + _TOLERANCE:
        limit = (now + _TOLERANCE).strftime(_TIME_FORMAT)
        raise AwsError(
            "InvalidSignatureException",
            f"Signature not yet current: {sent} is still later than {limit} "
            f"({ours} + 5 min.)",
        )
    return sent


def _check_scope(claim: re.Match[str], signed_at: str, service: str) -> None:
    """Check that the credential scope has this day, Region and service."""
    scope = {
        "date": (claim["day"], signed_at[:8]),
        "region": (claim["region"], REGION),
        "service": (claim["service"], service),
        "terminator": (claim["terminator"], "aws4_request"),
    }
    for part, (claimed, expected) in scope.items():
        if claimed != expected:
            raise AwsError(
                "InvalidSignatureException",
                f"Credential should be scoped to a valid {part}, not '{claimed}'.",
            )


def _check_coverage(claim: re.Match[str], request: ReceivedRequest) -> None:
    """Check that the host, all `x-amz-` headers and the body are signed."""
    covered = set(claim["signed_headers"].split(";"))
    names = (name.lower() for name in request.headers)
    needed = {"host", *(name for name in names if name.startswith("x-amz-"))}
    if missing := sorted(needed - covered):
        raise AwsError(
            "InvalidSignatureException",
            f"'{missing[0]}' must be a 'SignedHeader' in the AWS Authorization.",
        )
    digest = request.headers.get("x-amz-content-sha256")
    if digest is not None and digest != sha256(request.body).hexdigest():
        raise AwsError("InvalidSignatureException", _MISMATCH)


def _signature(
    request: ReceivedRequest, names: list[str], signed_at: str, service: str
) -> str:
    """Return the signature of the received request over the headers of these names."""
    headers = request.headers
    query = urlencode(parse_qsl(request.query, keep_blank_values=True), quote_via=quote)
    request_to_sign = AWSRequest(
        method=request.method,
        url=f"http://host{request.path}?{query}",  # the Host header is signed, not this
        headers={name: ",".join(headers.getall(name, ())) for name in names},
        data=request.body,
    )
    request_to_sign.context["timestamp"] = signed_at
    signer = SigV4Auth(_CREDENTIALS, service, REGION)
    text = signer.string_to_sign(
        request_to_sign, signer.canonical_request(request_to_sign)
    )
    signature: str = signer.signature(text, request_to_sign)
    return signature
