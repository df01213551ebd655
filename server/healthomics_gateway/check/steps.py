"""The table of steps, in their order."""

from __future__ import annotations

from healthomics_gateway.check.configuration import check_aws, check_settings
from healthomics_gateway.check.healthomics import (
    check_clock,
    check_endpoint,
    check_run,
)
from healthomics_gateway.check.identity import (
    check_credentials,
    check_identity,
    check_roles,
)
from healthomics_gateway.check.issuer import check_jwks
from healthomics_gateway.check.listening import check_addresses, check_certificates
from healthomics_gateway.check.process import check_log, check_traces
from healthomics_gateway.check.shared_store import check_shared
from healthomics_gateway.check.step import Step
from healthomics_gateway.files import PIPE_SECONDS
from healthomics_gateway.upstream.credentials import WAIT_SECONDS

TOTAL_SECONDS = 90.0  # for all steps
_AWS = ("settings", "aws")

STEPS = (
    # A pipe with the settings has a time limit of its own, and so has the chain.
    Step(
        name="settings",
        title="settings",
        run=check_settings,
        seconds=PIPE_SECONDS + 2,
    ),
    Step(name="aws", title="AWS settings", run=check_aws, seconds=10),
    Step(
        name="credentials",
        title="credentials",
        run=check_credentials,
        seconds=WAIT_SECONDS + 2,
    ),
    Step(
        name="identity",
        title="identity",
        run=check_identity,
        seconds=20,
        needs=(*_AWS, "credentials"),
    ),
    Step(
        name="endpoint",
        title="HealthOmics",
        run=check_endpoint,
        seconds=15,
        needs=_AWS,
    ),
    Step(name="clock", title="clock", run=check_clock, seconds=5, needs=("endpoint",)),
    Step(
        name="run",
        title="run",
        run=check_run,
        seconds=30,
        needs=(*_AWS, "credentials", "identity", "endpoint"),
    ),
    Step(
        name="roles",
        title="roles of rules",
        run=check_roles,
        seconds=20,
        needs=(*_AWS, "credentials", "identity"),
    ),
    Step(
        name="certificates",
        title="certificates",
        run=check_certificates,
        seconds=10,
        needs=("settings",),
    ),
    Step(
        name="jwks",
        title="issuer's keys",
        run=check_jwks,
        seconds=8,
        needs=("settings",),
    ),
    Step(
        name="addresses",
        title="addresses",
        run=check_addresses,
        seconds=10,
        needs=("settings",),
    ),
    Step(
        name="shared",
        title="shared store",
        run=check_shared,
        seconds=15,
        needs=("settings",),
    ),
    Step(name="log", title="log", run=check_log, seconds=5),
    Step(name="traces", title="traces", run=check_traces, seconds=5),
)
