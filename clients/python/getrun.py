"""Asks a HealthOmics gateway for one run, with the service config of this folder.

`python clients/python/getrun.py 127.0.0.1:50051 1000003` prints the run's status
and exits 0, or prints the error and exits 1.
"""

import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from healthomics.v1 import run_pb2, run_service_pb2, run_service_pb2_grpc

SERVICE_CONFIG = Path(__file__).parent.parent / "service-config.json"
DEADLINE_SECONDS = 5.0  # for the whole call, retries included


def main(address: str, run_id: str) -> int:
    """Print the run's status, or the error; return the exit code."""
    options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        request = run_service_pb2.GetRunRequest(id=run_id)
        try:
            run = stub.GetRun(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            print_failure(error)
            return 1
    print("status:", run_pb2.RunStatus.Name(run.status))
    return 0


def print_failure(error: grpc.RpcError) -> None:
    """Print the error's code, reason and details."""
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    status = rpc_status.from_call(error)  # None if no gateway answered
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            print("reason:", info.reason, dict(info.metadata), file=sys.stderr)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            wait = retry.retry_delay.ToTimedelta()
            print("retry after:", wait.total_seconds(), "s", file=sys.stderr)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            faults = error_details_pb2.BadRequest.FromString(detail.value)
            for violation in faults.field_violations:
                print("field", violation.field, violation.description, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
