"""A handwritten server to compare with: a servicer that calls boto3 in a thread pool.

boto3 reads its endpoint, Region and credentials from AWS's environment variables.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import grpc
from botocore.config import Config

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    add_RunServiceServicer_to_server,
)

THREADS = 16

# AWS's names to field names. The JSON names in the protos are AWS's names.
_FIELDS = {field.json_name: field.name for field in Run.DESCRIPTOR.fields}

# Enum fields, with the prefix of their values.
_PREFIXES = {
    "accelerators": "ACCELERATORS_",
    "log_level": "RUN_LOG_LEVEL_",
    "retention_mode": "RUN_RETENTION_MODE_",
    "status": "RUN_STATUS_",
    "storage_type": "STORAGE_TYPE_",
    "workflow_type": "WORKFLOW_TYPE_",
}


class Boto3Servicer(RunServiceServicer):
    """Calls HealthOmics through boto3 for each call."""

    def __init__(self) -> None:
        self._omics = boto3.client(
            "omics",
            # boto3 would add the prefix `workflows-` to the host of the endpoint.
            config=Config(inject_host_prefix=False, max_pool_connections=THREADS),
        )

    def GetRun(  # noqa: N802 - the method's name in the proto
        self,
        request: GetRunRequest,
        context: object,  # noqa: ARG002 - grpc passes it
    ) -> Run:
        """Return the run that boto3 reads, with the current time as `observe_time`."""
        run = run_of(self._omics.get_run(id=request.id))
        run.observe_time.GetCurrentTime()
        return run


def run_of(answer: dict[str, Any]) -> Run:
    """Return boto3's `answer` as a `Run`.

    Maps only the members that the benchmark's run has.
    """
    fields = {
        _FIELDS[name]: member for name, member in answer.items() if name in _FIELDS
    }
    for field, prefix in _PREFIXES.items():
        if field in fields:
            fields[field] = prefix + fields[field]
    if "parameters" in fields:
        fields["parameters"] = {"struct_value": fields["parameters"]}
    if logs := fields.get("log_location"):
        fields["log_location"] = {
            "engine_log_stream": logs.get("engineLogStream"),
            "run_log_stream": logs.get("runLogStream"),
        }
    return Run(**fields)


def serve(port: int) -> None:
    """Serve on loopback until the process is terminated."""
    server = grpc.server(ThreadPoolExecutor(max_workers=THREADS))
    servicer = Boto3Servicer()  # type: ignore[abstract]  # it implements only GetRun
    add_RunServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    serve(parser.parse_args().port)
