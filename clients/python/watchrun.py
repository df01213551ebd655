"""Watches a run of a HealthOmics gateway to its end, also if streams are cut.

`python clients/python/watchrun.py 127.0.0.1:50051 1000005` prints the run's statuses,
and exits 0 when it has ended. `--tls-ca` is for TLS, `--token-file` for a token.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from healthomics.v1 import run_pb2, run_service_pb2, run_service_pb2_grpc

MAX_FAILURES = 10  # consecutive, without any response
# Without a gateway's details, these codes mean that the stream was cut on its way.
CUT = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED")


def watch(stub: Any, run_id: str) -> Iterator[run_pb2.Run]:
    """Yield the states of a run until it has ended; watch again if a stream breaks."""
    uuid, failures = "", 0
    while True:
        request = run_service_pb2.WatchRunRequest(id=run_id, uuid=uuid)
        try:
            for response in stub.WatchRun(request):
                uuid, failures = response.run.uuid, 0
                yield response.run
        except grpc.RpcError as error:
            seconds = retry_seconds(error, failures)
            if seconds is None or failures == MAX_FAILURES:
                raise
            failures += 1
            print(f"watching again in {seconds:.2f} s", file=sys.stderr)
            time.sleep(seconds)  # RetryInfo's delay, or the back-off
        else:
            return


def retry_seconds(error: Any, failures: int) -> float | None:
    """Return the wait before the next attempt, or None if the error is final."""
    status = rpc_status.from_call(error)
    if status is None:  # no gateway answered
        backoff = min(0.5 * 2**failures, 30.0) * random.uniform(0.8, 1.2)
        return backoff if error.code().name in CUT else None
    for detail in status.details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            return retry.retry_delay.ToTimedelta().total_seconds()
    return None


def connect(address: str, tls_ca: Path | None, token_file: Path | None) -> grpc.Channel:
    """Return a channel; the token is read for each stream, as it may be renewed."""
    if tls_ca is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(tls_ca.read_bytes())
    if token_file is not None:

        def add_token(_context: Any, add: Any) -> None:
            add([("authorization", f"Bearer {token_file.read_text().strip()}")], None)

        token = grpc.metadata_call_credentials(add_token)
        credentials = grpc.composite_channel_credentials(credentials, token)
    return grpc.secure_channel(address, credentials)


def main() -> int:
    """Print the statuses of a run, or the error; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="the gateway's, as HOST:PORT")
    parser.add_argument("run_id")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="needs --tls-ca"
    )
    options = parser.parse_args()
    with connect(options.address, options.tls_ca, options.token_file) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        try:
            for run in watch(stub, options.run_id):
                print("status:", run_pb2.RunStatus.Name(run.status), flush=True)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
