"""Runs the cases that it reads from stdin, and prints what each of them returned."""

from __future__ import annotations

import base64
import json
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
from client import connect, details_of, get_run, status_of
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from watch import watch_run

from healthomics.v1.run_pb2 import Run, RunExport
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest

LONG_SECONDS = 60.0  # for a call without a deadline in the list


def main() -> None:
    """Run all cases."""
    document = json.load(sys.stdin)
    for case in document["cases"]:
        server = document["servers"][case["server"]]
        with connect(
            server["address"],
            Path(server["serviceConfig"]),
            _path(server.get("tlsCa")),
            _path(server.get("tokenFile")),
        ) as channel:
            run_case(channel, case)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


class RequestId(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sends an id with each call."""

    def __init__(self, request_id: str) -> None:
        """Send this id."""
        self._metadata = [("x-request-id", request_id)]

    def intercept_unary_unary(self, proceed: Any, call: Any, request: Any) -> Any:
        """Add the id to the metadata of a call."""
        return proceed(call._replace(metadata=self._metadata), request)

    intercept_unary_stream = intercept_unary_unary


def run_case(channel: grpc.Channel, case: dict[str, Any]) -> None:
    """Run one case."""
    run = get if case["method"] == "GetRun" else watch
    channel = grpc.intercept_channel(channel, RequestId(case["requestId"]))
    try:
        end = run(channel, case)
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        end = {"code": None, "error": None}  # the library has none
        if isinstance(error, grpc.RpcError):
            end = failure(error)
    report(case, **end)


def get(channel: grpc.Channel, case: dict[str, Any]) -> dict[str, Any]:
    """Make a call of GetRun, and return its end."""
    listed = case["request"]
    request = GetRunRequest(id=listed["id"], read_mask=mask(listed))
    for name in listed.get("export", ()):
        request.export.append(RunExport.Value(f"RUN_EXPORT_{name}"))
    if "maxStalenessSeconds" in listed:
        request.max_staleness.CopyFrom(Duration(seconds=listed["maxStalenessSeconds"]))
    seconds = case.get("deadlineSeconds", LONG_SECONDS)
    call = get_run(channel, request, seconds)
    if "cancelAfterSeconds" in case:
        threading.Timer(case["cancelAfterSeconds"], call.cancel).start()
    run = call.result()
    report_run(case, run)
    return {"code": "OK", "error": None, "trailers": trailers(call)}


def watch(channel: grpc.Channel, case: dict[str, Any]) -> dict[str, Any]:
    """Watch a run, and return the end of the watch."""
    listed = case["request"]
    request = WatchRunRequest(
        id=listed["id"], uuid=listed.get("uuid", ""), read_mask=mask(listed)
    )
    if "heartbeatSeconds" in listed:
        heartbeat = Duration(seconds=listed["heartbeatSeconds"])
        request.heartbeat_interval.CopyFrom(heartbeat)
    seconds = case.get("deadlineSeconds", LONG_SECONDS)
    with closing(watch_run(channel, request, seconds)) as states:
        for number, run in enumerate(states, start=1):
            report_run(case, run)
            if number == case.get("cancelAfterStates"):
                raise grpc.FutureCancelledError
    return {"code": "OK", "error": None}


def mask(listed: dict[str, Any]) -> FieldMask | None:
    """Return the read mask of a request."""
    return FieldMask(paths=listed["paths"]) if "paths" in listed else None


def failure(error: Any) -> dict[str, Any]:
    """Return an error in the form of the list."""
    details = details_of(error)
    info = details.get(ErrorInfo, ErrorInfo())
    delay = details[RetryInfo].retry_delay if RetryInfo in details else None
    violations = details.get(BadRequest, BadRequest()).field_violations
    return {
        "code": error.code().name,
        "error": {
            "message": error.details(),
            "reason": info.reason,
            "domain": info.domain,
            "metadata": dict(info.metadata),
            "retrySeconds": delay.seconds + delay.nanos / 1e9 if delay else None,
            "fields": {each.field: each.description for each in violations},
            "requestId": details.get(RequestInfo, RequestInfo()).request_id,
        },
        "trailers": trailers(error),
    }


def trailers(call: Any) -> dict[str, Any]:
    """Return the trailers that the list is about."""
    found: dict[str, Any] = {"x-request-id": [], "x-amzn-requestid": []}
    for key, value in call.trailing_metadata() or ():
        if key in found:
            found[key].append(value)
    return found


def report_run(case: dict[str, Any], run: Run) -> None:
    """Report a run of a case."""
    encoded = base64.b64encode(run.SerializeToString()).decode()
    report(case, run=encoded, status=status_of(run))


def report(case: dict[str, Any], **members: Any) -> None:
    """Print one line about a case."""
    print(json.dumps({"case": case["name"], **members}), flush=True)


if __name__ == "__main__":
    main()
