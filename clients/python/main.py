"""Asks a HealthOmics gateway for a run, or watches it to its end."""

import argparse
import sys
from pathlib import Path
from typing import Any

import grpc
from client import connect, details_of, get_run, status_of
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from watch import watch_run

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest

WATCH_SECONDS = 14 * 24 * 3600.0  # longer than a run takes


def main() -> int:
    """Print the status of a run, or the error; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["get", "watch"])
    parser.add_argument("id", help="the run's: 1 to 18 digits")
    parser.add_argument("--address", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--deadline", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--service-config", default="service-config.json", type=Path)
    parser.add_argument("--tls-ca", type=Path, metavar="FILE")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="needs --tls-ca"
    )
    options = parser.parse_args()
    if not 0 < options.deadline <= WATCH_SECONDS:
        parser.error(f"--deadline must be more than 0, and at most {WATCH_SECONDS:.0f}")
    if options.token_file and not options.tls_ca:
        parser.error("--token-file needs --tls-ca")
    ca, token = options.tls_ca, options.token_file
    try:
        channel = connect(options.address, options.service_config, ca, token)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    with channel:
        try:
            if options.command == "get":
                call = get_run(channel, GetRunRequest(id=options.id), options.deadline)
                print("status:", status_of(call.result()))
            else:
                request = WatchRunRequest(id=options.id)
                for run in watch_run(channel, request, WATCH_SECONDS):
                    print("status:", status_of(run), flush=True)
        except grpc.RpcError as error:
            print_error(error)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


def print_error(error: Any) -> None:
    """Print an error's code and message, and the details that it has."""
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    details = details_of(error)
    if ErrorInfo in details:
        print("reason:", details[ErrorInfo].reason, file=sys.stderr)
    if RetryInfo in details:
        wait = details[RetryInfo].retry_delay
        print("retry after:", wait.seconds + wait.nanos / 1e9, "s", file=sys.stderr)
    if BadRequest in details:
        for fault in details[BadRequest].field_violations:
            print(f"field {fault.field}: {fault.description}", file=sys.stderr)
    if RequestInfo in details:
        print("request id:", details[RequestInfo].request_id, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
