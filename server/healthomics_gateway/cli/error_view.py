"""A failed call as the command line reads and tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TextIO, TypeAlias, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from healthomics_gateway.cli.usage import plain
from healthomics_gateway.durations import duration_text

REQUEST_ID = "x-request-id"
DOMAIN = "healthomics-gateway"  # of each ErrorInfo of a gateway's
# What gRPC makes of a stream that a proxy or the network has ended, by the code of
# RST_STREAM, by the HTTP status, or by what was missing. A gateway's own errors with
# these codes have an ErrorInfo.
CUT_CODES = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
RESET = "RST_STREAM"  # in gRPC's words on a stream that was reset
UNCONNECTED = "failed to connect"  # how gRPC's words on a connection begin
CUT = "Socket closed|Connection reset|Broken pipe"
TLS_HINTS = {  # what gRPC's words have if TLS fails, and what to try
    "certificate has expired": "the gateway's certificate has expired;"
    " its operator must renew it",
    "certificate is not yet valid": "the gateway's certificate isn't valid yet;"
    " compare the clocks of both machines",
    "CERTIFICATE_VERIFY_FAILED": "the gateway's certificate isn't trusted;"
    " name its authority with --tls-ca",
    "Hostname Verification": "the gateway's certificate has another name;"
    " if it is the right one, set --server-name",
    "WRONG_VERSION_NUMBER": "what listens there doesn't speak TLS;"
    " leave out --tls and the other TLS flags",
    f"_ALERT_|Unwrap failed|{CUT}": "the gateway may want a client certificate that"
    " it trusts; set --tls-cert and --tls-key",
}
PLAINTEXT_HINTS = {
    f"Failed parsing HTTP/2|{CUT}": "what listens there may speak TLS;"
    " add --tls or --tls-ca",
}
Over: TypeAlias = Literal["plaintext", "tls", "unix"]  # what a call is made over
HINTS: Mapping[Over, Mapping[str, str]] = {
    "plaintext": PLAINTEXT_HINTS,
    "tls": TLS_HINTS,
    "unix": {},  # which has no TLS
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call, its details unpacked."""

    code: grpc.StatusCode
    message: str
    reason: str
    is_of_gateway: bool  # whether a gateway has answered it, or something on the way
    bad: BadRequest
    retry_seconds: float | None  # what the gateway asks to wait
    request_id: str | None

    @property
    def is_passing(self) -> bool:
        """Return whether another try may succeed."""
        if not self.is_of_gateway:
            return self.code in CUT_CODES or RESET in self.message
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_seconds is not None
        return self.code is grpc.StatusCode.UNAVAILABLE

    @property
    def is_cut(self) -> bool:
        """Whether something on the way ended a stream, as proxies do after a while."""
        is_unreachable = self.code is grpc.StatusCode.UNAVAILABLE
        return self.is_passing and not (self.is_of_gateway or is_unreachable)


def failure_of(call: grpc.Call) -> Failure:
    """Read what a call has ended with."""
    status = _rich_status(call)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for each in status.details:
        for detail in (info, bad, retry):
            each.Unpack(detail)
    trailers = cast("dict[str, str]", dict(call.trailing_metadata() or ()))
    return Failure(
        code=call.code(),
        message=status.message,
        reason=info.reason,
        is_of_gateway=info.domain == DOMAIN,
        bad=bad,
        retry_seconds=_seconds(retry.retry_delay)
        if retry.HasField("retry_delay")
        else None,
        request_id=trailers.get(REQUEST_ID),
    )


def _seconds(duration: Duration) -> float:
    return max(0.0, duration.ToTimedelta().total_seconds())


def hint_of(failure: Failure, *, over: Over) -> str:
    """Return what else to try, if the way in which the call failed shows that."""
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        advice = "send a valid token with --token-file"
        certificate = ", or a certificate with --tls-cert and --tls-key"
        return advice if over == "unix" else advice + certificate
    if not failure.message.startswith(UNCONNECTED):
        return ""
    return next(
        (
            hint
            for words, hint in HINTS[over].items()
            if re.search(words, failure.message)
        ),
        "",
    )


def write_failure(
    failure: Failure, stream: TextIO, *, over: Over = "plaintext"
) -> None:
    """Write status, reason, each fault of a bad request, and what to do next."""
    hint = hint_of(failure, over=over)
    words = [failure.code.name, failure.reason, failure.message]
    lines = [
        " ".join(filter(None, words)),
        *(
            f"  {each.field}: {each.description}"
            for each in failure.bad.field_violations
        ),
    ]
    if failure.retry_seconds is not None:
        wait = duration_text(timedelta(seconds=failure.retry_seconds))
        lines.append(f"  it may succeed in {wait}")
    if hint:
        lines.append(f"  {hint}")
    if failure.request_id is not None:
        lines.append(f"  request id: {failure.request_id}")
    elif failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        lines.append("  no answer came in time; set a longer --timeout")
    elif not hint:
        lines.append("  no gateway answered; check --address")
    stream.writelines(f"{plain(line)}\n" for line in lines)


def _rich_status(call: grpc.Call) -> Status:
    """Give the status with details, or what there is: not all servers are gateways."""
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        rich = None
    return rich or Status(message=call.details())
