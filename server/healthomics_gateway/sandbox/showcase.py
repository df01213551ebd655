"""Two unusual runs: one with all members set, one with unknown members."""

import json

from healthomics_gateway.sandbox.account import ACCOUNT_ID, REGION
from healthomics_gateway.sandbox.runs import History, Members, run, uuid_of

_COMPLETED = History(
    status="COMPLETED",
    created="2025-10-06T11:02:41Z",
    started="2025-10-06T11:09:13.204Z",
    stopped="2025-10-06T16:47:58.031877Z",
)


def complete_run(run_id: str) -> Members:
    """Return a run with all members in botocore's model, except the definition."""
    return run(run_id, _COMPLETED) | {
        "accelerators": "GPU",
        "batchId": "7300114",
        "cacheBehavior": "CACHE_ON_FAILURE",
        "cacheId": "2201938",
        "configuration": {
            "arn": f"arn:aws:omics:{REGION}:{ACCOUNT_ID}:configuration/clinical",
            "name": "clinical",
            "uuid": uuid_of("configuration", "clinical"),
        },
        "engineSettings": {"nextflow": {"profile": "clinical", "resume": True}},
        "failureReason": "NONE",
        "networkingMode": "VPC",
        "outputUriPrefixMode": "SERVICE_DEFINED",
        "runGroupId": "9925311",
        "runId": run_id,
        "scratchStorageMode": "LOCAL",
        "sessionPolicy": _SESSION_POLICY,
        "statusMessage": "The run completed; 2 of 148 tasks were retried.",
        "storageType": "DYNAMIC",
        "vpcConfig": {
            "securityGroupIds": ["sg-0a1b2c3d4e5f60718"],
            "subnetIds": ["subnet-0f1e2d3c4b5a69788", "subnet-08796a5b4c3d2e1f0"],
            "vpcId": "vpc-0123456789abcdef0",
            "vpcOwnerAccountId": ACCOUNT_ID,
        },
        "workflowOwnerId": "210987654321",
        "workflowVersionName": "2.3.0",
    }


def unmodeled_run(run_id: str) -> Members:
    """Return a run with members, enum values and types that no model has."""
    history = History(
        status="ARCHIVING",
        created="2025-10-07T06:05:04.123456789Z",
        started="2025-10-07T06:09:10.1234567891Z",  # finer than nanoseconds
    )
    members = run(run_id, history)
    members["logLocation"] = {
        "engineLogStream": "run/3000002/engine",
        "runLogStream": "run/3000002",
        "taskLogStreams": ["run/3000002/task/1", "run/3000002/task/2"],
    }
    return members | {
        "accelerators": "NEUROMORPHIC",
        "costEstimate": {"amount": 12.75, "currency": "USD", "final": False},
        "digest": None,
        "engineSettings": {"checkpoint": [1, 2.5, None, {"deep": [[]]}]},
        "logLevel": "DEBUG",
        "name": "Zoë exome, 第二次",
        "networkingMode": "MESH",
        "parameters": {"sample_name": "HG002", "seed": 9007199254740993},  # 2^53 + 1
        "priority": 1.5,
        "queuePosition": 7,
        "retentionMode": "ARCHIVE",
        "storageCapacity": 4294967296,  # 2^32
        "storageType": "ELASTIC",
        "tags": {"project": ["giab", "clinical"]},
        "vpcConfig": {"vpcId": "vpc-0123456789abcdef0", "edgeLocation": "IAD89"},
        "workflowType": "MARKETPLACE",
    }


_SESSION_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": "arn:aws:s3:::example-genomics/*",
            }
        ],
    }
)
