"""The sandbox: an embedded fake HealthOmics, a real HTTP server with scripted runs.

The rooms, in reading order:

* `server` listens, and takes each request through the rooms below;
* `signature` verifies SigV4 as AWS does;
* `quota` is the account's rate of calls;
* `catalog` says which id is answered with what;
* `life` is the run that walks from PENDING to COMPLETED;
* `showcase` has the two runs that show members at their limits;
* `runs` is how a run looks in each status;
* `failure` is an error as AWS writes it;
* `account` is the made-up AWS account that all this happens in.

Nothing of the gateway is imported here: the sandbox must be able to disagree.
"""

from healthomics_gateway.sandbox.account import (
    ACCESS_KEY_ID,
    ACCOUNT_ID,
    REGION,
    SECRET_ACCESS_KEY,
)
from healthomics_gateway.sandbox.catalog import RUNS_HELP
from healthomics_gateway.sandbox.server import Sandbox, environment
from healthomics_gateway.sandbox.signature import ReceivedRequest

__all__ = [
    "ACCESS_KEY_ID",
    "ACCOUNT_ID",
    "REGION",
    "RUNS_HELP",
    "SECRET_ACCESS_KEY",
    "ReceivedRequest",
    "Sandbox",
    "environment",
]
