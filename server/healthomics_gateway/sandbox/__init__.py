"""The sandbox: an embedded fake HealthOmics, a real HTTP server with scripted runs.

The modules, in reading order:

* `server` receives requests, and uses the modules below to answer them;
* `signature` verifies SigV4 as AWS does;
* `sts` says whose the credentials are;
* `quota` is the account's rate of calls;
* `catalog` has the answer for each id;
* `lifecycle` is the run that goes from PENDING to COMPLETED;
* `showcase` has two runs with unusual members;
* `runs` has the members of a run in each status;
* `errors` has the errors of AWS;
* `account` is the fictitious AWS account of the sandbox.

The sandbox imports nothing of the gateway, so that it can't share its mistakes.
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
