"""One call through a gateway, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TextIO, cast

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from rich.console import Console

from healthomics.v1.run_pb2 import RunExport
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.durations import duration_text
from healthomics_gateway.show import plain, run_text

DONE, FAILED = 0, 1
REQUEST_ID = "x-request-id"


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command writes: answers to one stream, failures to the other."""

    answers: TextIO
    failures: TextIO
    as_json: bool = False
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def get(
    channel: grpc.Channel,
    run_id: str,
    output: Output,
    *,
    export: Sequence[str] = (),
    max_staleness: timedelta | None = None,
    timeout: timedelta,
) -> int:
    """Make one GetRun and write its answer; give the exit code."""
    request = GetRunRequest(
        id=run_id, export=[RunExport.Value(f"RUN_EXPORT_{each}") for each in export]
    )
    if max_staleness is not None:
        request.max_staleness.FromTimedelta(max_staleness)
    try:
        run = RunServiceStub(channel).GetRun(request, timeout=timeout.total_seconds())
    except grpc.RpcError as error:
        # grpc's stubs don't say so, but a failed call is its own error.
        _write_failure(cast("grpc.Call", error), output)
        return FAILED
    if output.as_json:
        output.answers.write(json_format.MessageToJson(run, indent=None) + "\n")
    else:
        console = Console(file=output.answers, highlight=False)
        console.print(run_text(run, now=output.now()), soft_wrap=True)
    return DONE


def _write_failure(call: grpc.Call, output: Output) -> None:
    """Tell status, reason, each fault of a bad request, and what to do next."""
    status = _rich_status(call)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for each in status.details:
        for detail in (info, bad, retry):
            each.Unpack(detail)
    trailers = cast("dict[str, str]", dict(call.trailing_metadata() or ()))
    lines = [
        " ".join(filter(None, [call.code().name, info.reason, status.message])),
        *(f"  {each.field}: {each.description}" for each in bad.field_violations),
    ]
    if retry.HasField("retry_delay"):
        wait = duration_text(retry.retry_delay.ToTimedelta())
        lines.append(f"  it may succeed in {wait}")
    if REQUEST_ID in trailers:
        lines.append(f"  request id: {trailers[REQUEST_ID]}")
    elif call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        lines.append("  no answer came in time; --timeout gives it longer")
    else:
        lines.append("  no gateway answered; --address tells where one listens")
    output.failures.writelines(f"{plain(line)}\n" for line in lines)


def _rich_status(call: grpc.Call) -> Status:
    """Give the status with details, or what there is: not all servers are gateways."""
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        rich = None
    return rich or Status(message=call.details())
