"""The run that every server of the benchmarks returns, as JSON and as `Run`."""

import json

from google.protobuf.json_format import ParseDict

from healthomics.v1.run_pb2 import Run

RUN_ID = "1234567"

_ACCOUNT = "123456789012"
_LOG_STREAM = (
    f"arn:aws:logs:us-east-1:{_ACCOUNT}:log-group:/aws/omics/WorkflowLog:log-stream:run"
)

# A running GPU run, about 1.2 KB as JSON.
_MEMBERS: dict[str, object] = {
    "accelerators": "GPU",
    "creationTime": "2025-03-14T09:26:53.589793Z",
    "digest": "5a1f0c2b7d9e4f63815b0a7c2d4e6f8091a3b5c7d9e1f2034657889abacdcfe0",
    "logLevel": "ALL",
    "name": "germline-hg38-NA12878",
    "outputUri": "s3://example-genomics/outputs",
    "parameters": {
        "reference": "s3://example-genomics/references/hg38.fa",
        "samples": ["NA12878_R1.fastq.gz", "NA12878_R2.fastq.gz"],
        "min_quality": 20.5,
        "mark_duplicates": True,
    },
    "priority": 100,
    "retentionMode": "RETAIN",
    "roleArn": f"arn:aws:iam::{_ACCOUNT}:role/HealthOmicsRun",
    "startedBy": f"arn:aws:iam::{_ACCOUNT}:user/pipeline",
    "startTime": "2025-03-14T09:31:07.123Z",
    "status": "RUNNING",
    "storageCapacity": 1200,
    "storageType": "STATIC",
    "tags": {"project": "trio-study", "stage": "production"},
    "uuid": "0d5c1f6e-94a8-4a3b-8f55-2b1f0b6a7c9d",
    "workflowId": "7654321",
    "workflowType": "PRIVATE",
}

# The enum members, with their values as the proto spells them.
_ENUMS: dict[str, object] = {
    "accelerators": "ACCELERATORS_GPU",
    "logLevel": "RUN_LOG_LEVEL_ALL",
    "retentionMode": "RUN_RETENTION_MODE_RETAIN",
    "status": "RUN_STATUS_RUNNING",
    "storageType": "STORAGE_TYPE_STATIC",
    "workflowType": "WORKFLOW_TYPE_PRIVATE",
}


def answer(run_id: str) -> bytes:
    """Return the JSON that HealthOmics sends for `run_id`."""
    return json.dumps(_members(run_id), separators=(",", ":")).encode()


def run(run_id: str) -> Run:
    """Return the same run as `answer`, as a `Run` without `observe_time`.

    Uses only the generated code, and no code of the servers that it checks.
    """
    return ParseDict({**_members(run_id), **_ENUMS}, Run())


def _members(run_id: str) -> dict[str, object]:
    return {
        **_MEMBERS,
        "arn": f"arn:aws:omics:us-east-1:{_ACCOUNT}:run/{run_id}",
        "id": run_id,
        "logLocation": {
            "engineLogStream": f"{_LOG_STREAM}/{run_id}/engine",
            "runLogStream": f"{_LOG_STREAM}/{run_id}",
        },
        "runId": run_id,
        "runOutputUri": f"s3://example-genomics/outputs/{run_id}",
    }
