"""Watches runs of a HealthOmics gateway to their end: copy this file and client.py."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from typing import Any

import grpc
from client import details_of
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub

MAX_RETRIES = 10  # in a row, without any response
MIN_SECONDS, MAX_SECONDS = 0.05, 3600.0  # of a wait: the gateway's are within a minute
# Without a gateway's details, these codes mean that the stream was cut on its way.
CUT = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")


def watch_run(
    channel: grpc.Channel, request: WatchRunRequest, seconds: float
) -> Generator[Run, None, None]:
    """Yield the states of a run until its end. If a stream breaks, it opens another.

    Raises grpc.RpcError for a final error, and the last one if no time is left.
    """
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
        except grpc.RpcError as error:
            wait = retry_delay(error, failures)
            is_late = time.monotonic() + (wait or 0) >= until
            if wait is None or is_late or failures == MAX_RETRIES:
                raise
            failures += 1
            time.sleep(wait)  # RetryInfo's delay, or the back-off
        else:
            return
        finally:
            call.cancel()  # if the caller closes the iterator


def retry_delay(error: Any, failures: int) -> float | None:
    """Return the wait in seconds until the next stream; None if the error is final."""
    details = details_of(error)
    if RetryInfo in details:
        delay = details[RetryInfo].retry_delay
        seconds: float = delay.seconds + delay.nanos / 1e9
        return min(max(seconds, MIN_SECONDS), MAX_SECONDS)
    if ErrorInfo in details or error.code().name not in CUT:
        return None
    return min(0.5 * 2.0**failures, 30.0) * random.uniform(0.8, 1.2)
