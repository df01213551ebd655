"""A failed call as the command line reads and tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from healthomics_gateway.durations import duration_text
from healthomics_gateway.show import plain

REQUEST_ID = "x-request-id"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call, its details unpacked."""

    code: grpc.StatusCode
    message: str
    reason: str
    bad: BadRequest
    retry_seconds: float | None  # what the gateway asks to wait
    request_id: str | None

    @property
    def is_passing(self) -> bool:
        """Tell whether another try may succeed."""
        if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self.retry_seconds is not None
        return self.code is grpc.StatusCode.UNAVAILABLE


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
        bad=bad,
        retry_seconds=_seconds(retry.retry_delay)
        if retry.HasField("retry_delay")
        else None,
        request_id=trailers.get(REQUEST_ID),
    )


def _seconds(duration: Duration) -> float:
    return max(0.0, duration.ToTimedelta().total_seconds())


def write_failure(failure: Failure, stream: TextIO) -> None:
    """Tell status, reason, each fault of a bad request, and what to do next."""
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
    if failure.request_id is not None:
        lines.append(f"  request id: {failure.request_id}")
    elif failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        lines.append("  no answer came in time; --timeout gives it longer")
    else:
        lines.append("  no gateway answered; --address tells where one listens")
    stream.writelines(f"{plain(line)}\n" for line in lines)


def _rich_status(call: grpc.Call) -> Status:
    """Give the status with details, or what there is: not all servers are gateways."""
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        rich = None
    return rich or Status(message=call.details())
