"""The members of a run in AWS's JSON, by its history."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

from healthomics_gateway.sandbox.account import ACCOUNT_ID, REGION

Members = dict[str, object]
"""The members of a run in the JSON of an answer."""

_NAMESPACE = UUID("6b1f0c52-6f3c-4d7e-9a40-5d0e6f5f2c11")  # of all uuids of the sandbox
_SAMPLES = ("HG001", "HG002", "HG003", "HG004", "HG005", "HG006", "HG007")
_BUCKET = "s3://example-genomics"
_LOG_GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:/aws/omics/WorkflowLog"
WORKFLOW_ID = "4815162"

DEFINITION = "s3://example-genomics/workflows/germline-variant-calling-2.3.0.zip"
"""The definition of every run, for `export=DEFINITION`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The status and the times of a run, as AWS writes them; None: not yet."""

    status: str
    created: str
    started: str | None = None
    stopped: str | None = None


def run(run_id: str, history: History) -> Members:
    """Return the members of a run; each status adds some."""
    members = _submitted(run_id, history)
    if history.status != "PENDING":
        members |= _prepared(run_id)
    if history.started:
        members |= _started(run_id, history.started)
    if history.stopped:
        members["stopTime"] = history.stopped
    return members | _ENDINGS.get(history.status, {})


def timestamp(instant: datetime, timespec: str) -> str:
    """Return a time as AWS writes it; `timespec` is that of `datetime.isoformat`."""
    return instant.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def uuid_of(*of: str) -> str:
    """Return the uuid for these words; the same words have the same uuid."""
    return str(uuid5(_NAMESPACE, "/".join(of)))


def _submitted(run_id: str, history: History) -> Members:
    """Return the members set by StartRun; another creation time has another uuid."""
    sample = _SAMPLES[int(run_id) % len(_SAMPLES)]
    return {
        "arn": f"arn:aws:omics:{REGION}:{ACCOUNT_ID}:run/{run_id}",
        "creationTime": history.created,
        "id": run_id,
        "name": f"{sample}-germline",
        "outputUri": f"{_BUCKET}/results",
        "parameters": {
            "sample_name": sample,
            "fastq_pairs": [
                {
                    "r1": f"{_BUCKET}/reads/{sample}_R1.fastq.gz",
                    "r2": f"{_BUCKET}/reads/{sample}_R2.fastq.gz",
                }
            ],
            "reference": "s3://broad-references/hg38/v0/Homo_sapiens_assembly38.fasta",
            "min_base_quality": 20,
            "contamination": 0.015,
            "joint_calling": False,
        },
        "roleArn": f"arn:aws:iam::{ACCOUNT_ID}:role/OmicsWorkflowRole",
        "startedBy": f"arn:aws:iam::{ACCOUNT_ID}:user/ada",
        "status": history.status,
        "tags": {},
        "uuid": uuid_of(run_id, history.created),
        "workflowId": WORKFLOW_ID,
        "workflowType": "PRIVATE",
    }


def _prepared(run_id: str) -> Members:
    """Return the members that a run has after PENDING."""
    return {
        "digest": "9b2d5b1c1e3f4a0a8d7c6e5f40312213f4e5d6c7b8a990817263544536271809",
        "engineVersion": "24.10.8",
        "logLevel": "ALL",
        "priority": 100,
        "resourceDigests": {
            f"{_BUCKET}/reads/manifest.json": "etag:5eb63bbbe01eeed093cb22bb8f5acdc3",
        },
        "retentionMode": "RETAIN",
        "runOutputUri": f"{_BUCKET}/results/{run_id}",
        "storageCapacity": 1200,
        "storageType": "STATIC",
        "tags": {"project": "giab", "cost-center": "4711"},
        "workflowUuid": uuid_of("workflow", WORKFLOW_ID),
    }


def _started(run_id: str, started: str) -> Members:
    """Return the members that a run has after its tasks have started."""
    stream = f"{_LOG_GROUP}:log-stream:run/{run_id}"
    return {
        "logLocation": {
            "engineLogStream": f"{stream}/engine",
            "runLogStream": stream,
        },
        "startTime": started,
    }


_ENDINGS: dict[str, Members] = {
    "CANCELLED": {"statusMessage": "The run was cancelled by a CancelRun request."},
    "FAILED": {
        "failureReason": "WORKFLOW_RUN_FAILED",
        "statusMessage": (
            "Task HaplotypeCaller (4821930) failed with exit code 137: "
            "the task's memory of 16 GiB was used up."
        ),
    },
}
