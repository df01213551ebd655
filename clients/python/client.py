"""Calls a HealthOmics gateway, and watches runs to their end: copy this file."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from grpc_status import rpc_status

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub

MAX_FAILURES = 10  # consecutive, without any response
# Without a gateway's details, these codes mean that the stream was cut on its way.
CUT = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")


def connect(
    address: str, config: Path, ca: Path | None = None, token: Path | None = None
) -> grpc.Channel:
    """Return a channel with a service config; `ca` is for TLS, `token` needs TLS."""
    options = [("grpc.service_config", config.read_text())]
    if token and not ca:
        raise ValueError("a token needs TLS")
    if ca is None:
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes())
    if token is not None:

        def add_token(_: Any, add: Any) -> None:  # for each call: it may be renewed
            add([("authorization", f"Bearer {token.read_text().strip()}")], None)

        call = grpc.metadata_call_credentials(add_token)
        credentials = grpc.composite_channel_credentials(credentials, call)
    return grpc.secure_channel(address, credentials, options)


def get_run(channel: grpc.Channel, request: GetRunRequest, seconds: float) -> Any:
    """Return the call: result() waits for the run, and cancel() cancels."""
    return RunServiceStub(channel).GetRun.future(request, timeout=seconds)


def watch_run(
    channel: grpc.Channel, request: WatchRunRequest, seconds: float
) -> Iterator[Run]:
    """Yield the states of a run until its end, also if streams are cut."""
    request = WatchRunRequest.FromString(request.SerializeToString())  # a copy
    until, failures = time.monotonic() + seconds, 0
    while True:
        left = until - time.monotonic()
        call = RunServiceStub(channel).WatchRun(request, timeout=left)
        try:
            for response in call:
                failures = 0
                if response.HasField("run"):  # else it is a heartbeat
                    # To watch only this run again; a read mask may leave it out.
                    request.uuid = response.run.uuid or request.uuid
                    yield response.run
            return  # noqa: TRY300 -- the run has ended
        except grpc.RpcError as error:
            wait = retry_delay(error, failures)
            is_late = time.monotonic() + (wait or 0) >= until
            if wait is None or is_late or failures == MAX_FAILURES:
                raise  # the error is final
        finally:
            call.cancel()  # if the caller closes the iterator
        failures += 1
        time.sleep(wait)


def retry_delay(error: Any, failures: int) -> float | None:
    """Return the wait until the next stream, or None if the error is final."""
    details = details_of(error)
    if RetryInfo in details:
        return max(details[RetryInfo].retry_delay.ToTimedelta().total_seconds(), 0.05)
    backoff = min(0.5 * 2**failures, 30.0) * random.uniform(0.8, 1.2)
    return None if details or error.code().name not in CUT else backoff


def details_of(error: Any) -> dict[Any, Any]:
    """Return an error's details by type: none if no gateway sent it."""
    status = rpc_status.from_call(error)
    kinds = (BadRequest, ErrorInfo, RequestInfo, RetryInfo)
    pairs = [(d, k) for d in (status.details if status else ()) for k in kinds]
    return {k: k.FromString(d.value) for d, k in pairs if d.Is(k.DESCRIPTOR)}


def status_of(run: Run) -> str:
    """Return AWS's word for the status, even if it is newer than the stubs."""
    newer = run.unmodeled_json.get("status")
    names = {number: name[11:] for name, number in RunStatus.items()}
    return str(json.loads(newer)) if newer else names.get(run.status, str(run.status))
