"""Sessions of STS: the signer of a request, and a HealthOmics that accepts sessions."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import CIMultiDictProxy

from healthomics_gateway.sandbox import REGION
from testkit.lying_upstream import LyingUpstream, Request

ACCOUNT = "123456789012"  # the gateway's own
TOLERANCE = timedelta(minutes=5)  # between the signer's clock and STS's
EXPIRED, INVALID = "ExpiredToken", "InvalidClientTokenId"
MISMATCH = "SignatureDoesNotMatch"

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>[^,]+), "
    r"SignedHeaders=(?P<names>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A session that was created, and its caller."""

    access_key: str
    secret_key: str
    token: str
    role: str
    name: str


class SessionUpstream(LyingUpstream):
    """A HealthOmics that also accepts signatures of sessions."""

    def __init__(self, given: Mapping[str, Given], **options: Any) -> None:
        """Accept the sessions in `given`, by access key."""
        super().__init__(**options)
        self._given = given

    def _recorded(self, head: bytes, connection: int) -> Request:
        request = super()._recorded(head, connection)
        given = self._given.get(key_of(request.headers))
        if given:
            fault = signature_fault(
                ["GET", request.target],
                request.headers,
                b"",
                keys={given.access_key: (given.secret_key, given.token)},
                service="omics",
                now=self.now(),
            )
            request = self.requests[-1] = replace(request, fault=fault)
        return request

    def _account(self, request: Request) -> str:
        given = self._given.get(key_of(request.headers))
        account = given.role.split(":")[4] if given else ""
        return "" if account == ACCOUNT else account


def key_of(headers: Mapping[str, str]) -> str:
    """Return the access key that signed a request; empty if it isn't signed."""
    claim = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    return claim["key"] if claim else ""


def signature_fault(
    line: list[str],
    headers: CIMultiDictProxy[str],
    body: bytes,
    *,
    keys: Mapping[str, tuple[str, str | None]],
    service: str,
    now: datetime,
) -> str:
    """Return AWS's code for the fault of a signature; empty if it is valid.

    `line` is method and target; `keys` are the secret and the session token of each
    access key.
    """
    claim = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if claim is None:
        return "MissingAuthenticationToken"
    secret, token = keys.get(claim["key"], ("", ""))
    if not secret:
        return INVALID
    if headers.get("x-amz-security-token") != token:
        return EXPIRED if token else INVALID
    stamp = headers["x-amz-date"]
    signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    names = claim["names"].split(";")
    method, target = line
    request = AWSRequest(
        method, f"http://host{target}", {name: headers[name] for name in names}, body
    )
    request.context["timestamp"] = stamp
    signer = SigV4Auth(Credentials(claim["key"], secret), service, REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    is_right = (
        abs(now - signed_at) <= TOLERANCE
        and claim["scope"] == f"{stamp[:8]}/{REGION}/{service}/aws4_request"
        and {"host", *(name.lower() for name in headers if "x-amz-" in name.lower())}
        <= set(names)
        and hmac.compare_digest(signer.signature(text, request), claim["signature"])
    )
    return "" if is_right else MISMATCH
