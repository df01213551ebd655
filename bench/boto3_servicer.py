"""The peer: what people write by hand, boto3 in a servicer on a pool of threads.

boto3 finds its endpoint, Region and credentials in AWS's own environment variables.
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

# AWS's names → fields. The contract's JSON names are AWS's names.
_FIELDS = {field.json_name: field.name for field in Run.DESCRIPTOR.fields}

# Fields that are enums → the prefix of their values.
_PREFIXES = {
    "accelerators": "ACCELERATORS_",
    "log_level": "RUN_LOG_LEVEL_",
    "retention_mode": "RUN_RETENTION_MODE_",
    "status": "RUN_STATUS_",
    "storage_type": "STORAGE_TYPE_",
    "workflow_type": "WORKFLOW_TYPE_",
}


class Boto3Servicer(RunServiceServicer):
    """Asks HealthOmics through boto3 for every call."""

    def __init__(self) -> None:
        self._omics = boto3.client(
            "omics",
            # The endpoint is explicit: its host takes no `workflows-` prefix.
            config=Config(inject_host_prefix=False, max_pool_connections=THREADS),
        )

    def GetRun(  # noqa: N802 - the contract's name
        self,
        request: GetRunRequest,
        context: object,  # noqa: ARG002 - grpc passes it
    ) -> Run:
        """Return the run as boto3 reads it, as of now."""
        run = run_of(self._omics.get_run(id=request.id))
        run.observe_time.GetCurrentTime()
        return run


def run_of(answer: dict[str, Any]) -> Run:
    """Return boto3's `answer` as a `Run`: plain copies wherever protobuf takes them.

    It maps what the bench's run has, not every member of the contract.
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
    """Answer on loopback until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(max_workers=THREADS))
    servicer = Boto3Servicer()  # type: ignore[abstract]  # it answers GetRun alone
    add_RunServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    serve(parser.parse_args().port)
