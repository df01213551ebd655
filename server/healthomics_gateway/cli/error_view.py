"""Reads the error of a failed call and writes it for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from healthomics_gateway.cli.connection import Transport
from healthomics_gateway.cli.usage import plain
from healthomics_gateway.durations import duration_text

REQUEST_ID = "x-request-id"
DOMAIN = "healthomics-gateway"  # of the ErrorInfo in errors of a gateway
# The codes that gRPC reports when a proxy or the network has ended a stream. It derives
# them from the code of RST_STREAM, from the HTTP status, or from missing trailers. If a
# gateway itself returns one of these codes, the error has an ErrorInfo.
CUT_CODES = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
RESET = "RST_STREAM"  # in gRPC's message about a stream that was reset
UNCONNECTED = "failed to connect"  # start of gRPC's message about a connection
CUT = "Socket closed|Connection reset|Broken pipe"
TLS_HINTS = {  # by a pattern in gRPC's message when TLS fails
    "certificate has expired": "the gateway's certificate has expired;"
    " its operator must renew it",
    "certificate is not yet valid": "the gateway's certificate isn't valid yet;"
    " compare the clocks of both machines",
    "CERTIFICATE_VERIFY_FAILED": "the gateway's certificate isn't trusted;"
    " name its authority with --tls-ca",
    "Hostname Verification": "the gateway's certificate has another name;"
    " if it is the right gateway, set --server-name",
    "WRONG_VERSION_NUMBER": "the server at this address doesn't use TLS;"
    " remove --tls and the other TLS flags",
    f"_ALERT_|Unwrap failed|{CUT}": "the gateway may require a client"
    " certificate that it trusts; set --tls-cert and --tls-key",
}
PLAINTEXT_HINTS = {
    f"Failed parsing HTTP/2|{CUT}": "the server at this address may use TLS;"
    " add --tls or --tls-ca",
}
HINTS: Mapping[Transport, Mapping[str, str]] = {
    "plaintext": PLAINTEXT_HINTS,
    "tls": TLS_HINTS,
    "unix": {},  # no TLS
}


@dataclass(frozen=True, slots=True)
class CallFailure:
    """The error of a failed call, with its details."""

    code: grpc.StatusCode
    message: str
    reason: str
    is_from_gateway: bool  # False: the error comes from a proxy or the client
    bad: BadRequest
    retry_seconds: float | None  # the retry delay that the gateway asks for
    request_id: str | None

    @property
    def is_retryable(self) -> bool:
        """Return whether a retry may succeed."""
        if not self.is_from_gateway:
            return self.code in CUT_CODES or RESET in self.message
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_seconds is not None
        return self.code is grpc.StatusCode.UNAVAILABLE

    @property
    def is_cut(self) -> bool:
        """Return whether a proxy or the network ended the stream."""
        is_unreachable = self.code is grpc.StatusCode.UNAVAILABLE
        return self.is_retryable and not (self.is_from_gateway or is_unreachable)


def failure_of(call: grpc.Call) -> CallFailure:
    """Return the error that a call has ended with."""
    status = _rich_status(call)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for each in status.details:
        for detail in (info, bad, retry):
            each.Unpack(detail)
    trailers = cast("dict[str, str]", dict(call.trailing_metadata() or ()))
    return CallFailure(
        code=call.code(),
        message=status.message,
        reason=info.reason,
        is_from_gateway=info.domain == DOMAIN,
        bad=bad,
        retry_seconds=_seconds(retry.retry_delay)
        if retry.HasField("retry_delay")
        else None,
        request_id=trailers.get(REQUEST_ID),
    )


def _seconds(duration: Duration) -> float:
    return max(0.0, duration.ToTimedelta().total_seconds())


def hint_of(failure: CallFailure, *, transport: Transport) -> str:
    """Return advice on authentication or TLS, or an empty text."""
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        advice = "send a valid token with --token-file"
        certificate = ", or a certificate with --tls-cert and --tls-key"
        return advice if transport == "unix" else advice + certificate
    if not failure.message.startswith(UNCONNECTED):
        return ""
    return next(
        (
            hint
            for pattern, hint in HINTS[transport].items()
            if re.search(pattern, failure.message)
        ),
        "",
    )


def write_failure(
    failure: CallFailure, stream: TextIO, *, transport: Transport = "plaintext"
) -> None:
    """Write the status, the reason, each invalid field, and what to do next."""
    hint = hint_of(failure, transport=transport)
    parts = [failure.code.name, failure.reason, failure.message]
    lines = [
        " ".join(filter(None, parts)),
        *(
            f"  {each.field}: {each.description}"
            for each in failure.bad.field_violations
        ),
    ]
    if failure.retry_seconds is not None:
        wait = duration_text(timedelta(seconds=failure.retry_seconds))
        lines.append(f"  retry in {wait}")
    if hint:
        lines.append(f"  {hint}")
    if failure.request_id is not None:
        lines.append(f"  request id: {failure.request_id}")
    elif failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        lines.append("  the answer took too long; set a longer --timeout")
    elif not hint:
        lines.append("  no gateway answered; check --address")
    stream.writelines(f"{plain(line)}\n" for line in lines)


def _rich_status(call: grpc.Call) -> Status:
    """Return the status with its details, or only its message if it has none."""
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        rich = None
    return rich or Status(message=call.details())
