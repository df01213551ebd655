"""The fictitious AWS account of the sandbox: its id, Region and credentials."""

ACCOUNT_ID = "123456789012"  # AWS's own example account
REGION = "us-east-1"
SERVICE = "omics"  # the signing name of HealthOmics

ACCESS_KEY_ID = "AKIDSANDBOXEXAMPLE01"  # valid only for a sandbox
SECRET_ACCESS_KEY = "sandbox/opens/nothing/but/a/sandbox00000"  # noqa: S105 -- fictitious
