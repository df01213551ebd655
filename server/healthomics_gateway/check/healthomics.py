"""Checks the endpoint of HealthOmics, the clock, and the permission to read a run."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

from healthomics.v1.run_pb2 import RunStatus
from healthomics_gateway.check.advice import TIMED_OUT, advice_of
from healthomics_gateway.check.configuration import proxy_text
from healthomics_gateway.check.found import Found, known
from healthomics_gateway.check.identity import NO_ROLES, partitions_of
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.durations import elapsed_text
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.retry import Retrying
from healthomics_gateway.runs.source import OWN, OneCall, Partition, RunQuery
from healthomics_gateway.upstream.classify import (
    ERROR_HEADER,
    FAILURES,
    REDIRECT,
    SUCCESS,
)
from healthomics_gateway.upstream.clock import NO_SKEW, skew_of
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.provider import AGENT
from healthomics_gateway.upstream.transport import TransportError

READ_SECONDS = 25.0  # for the GetRun, with its retries
_STATUS = "RUN_STATUS_"
# They are sent unsigned, so AWS refuses the request, which shows that it is reachable.
HEADERS = {"accept-encoding": "identity", "user-agent": AGENT}
# By the hundreds of the status: an answer that can't be a refusal.
_ANSWERS = {
    SUCCESS: Reason.UPSTREAM_MALFORMED_RESPONSE,
    REDIRECT: Reason.UPSTREAM_UNEXPECTED_REDIRECT,
}
OF_PROXY = "ClientHttpProxyError"  # aiohttp's error if a proxy refuses the tunnel
OF_AWS = (ERROR_HEADER, "x-amzn-requestid")  # one of them is in each refusal
NOT_OF_AWS = (
    "the answer lacks AWS's headers, so another server may have sent it; check"
    " AWS_ENDPOINT_URL_OMICS, and name a run to be sure:"
    " healthomics-gateway check RUN_ID"
)


async def check_endpoint(found: Found) -> Result:
    """Send a request without a signature, with the gateway's own transport."""
    aws = known(found.aws, "aws")
    began = found.now()
    try:
        reply = await found.upstream.transport.get(f"{aws.endpoint}/", HEADERS)
    except TransportError as error:
        return failed(_problem(aws, error))
    took = found.now() - began
    if fault := _ANSWERS.get(reply.status // 100):
        return failed(f"{_server(aws)}: {advice_of(fault)} (status {reply.status})")
    found.reply = reply, began + took / 2
    is_tls = aws.endpoint.startswith("https:")
    trust = ", and its certificate is trusted" if is_tls else ""
    ms = took / timedelta(milliseconds=1)
    notes = [] if any(each in reply.headers for each in OF_AWS) else [NOT_OF_AWS]
    return ok(f"it answers in {ms:.0f} ms{trust}", *notes)


def _problem(aws: Aws, error: TransportError) -> str:
    """Return what failed, with the text of the operating system or of OpenSSL."""
    cause = error.__cause__
    certificate = getattr(cause, "certificate_error", None)
    number = getattr(cause, "errno", None)
    said = getattr(certificate, "verify_message", "") or (
        os.strerror(number) if number and number > 0 else ""
    )
    if type(cause).__name__ == OF_PROXY:
        said = f"status {getattr(cause, 'status', '')} of the proxy"
    because = f" ({said})" if said else ""
    reason = FAILURES[error.failure].reason
    return f"{_server(aws)}: {advice_of(reason)}{because}"


def _server(aws: Aws) -> str:
    through = f" through {proxy_text(aws.proxy)}" if aws.proxy else ""
    return f"{aws.endpoint}{through}"


async def check_clock(found: Found) -> Result:
    """Compare the machine's clock with the date of the endpoint's answer."""
    reply, at = known(found.reply, "endpoint")
    if "Date" not in reply.headers:
        return skipped("the answer of the endpoint has no date")
    skew = skew_of(reply.headers["Date"], at)
    if skew is None:
        return skipped("the answer of the endpoint has no date that can be compared")
    if skew == NO_SKEW:
        return ok("it differs from AWS's by less than a minute")
    way = "behind" if skew > NO_SKEW else "ahead of"
    return failed(
        f"it is {elapsed_text(abs(skew))} {way} AWS's; synchronize it, as by"
        " chrony or systemd-timesyncd. AWS refuses signatures that are five minutes"
        " off, and the times of tokens and certificates are compared with this clock"
    )


async def check_run(found: Found) -> Result:
    """Read the run once, with the identity that the rules use."""
    if found.run_id is None:
        return skipped("name a run: healthomics-gateway check RUN_ID")
    partition = _partition(found)
    if partition.role and found.is_sandbox:
        return skipped(f"every rule has aws_role, and {NO_ROLES}")
    until = asyncio.get_running_loop().time() + READ_SECONDS
    runs = Retrying(
        found.upstream.roles, max_attempts=found.settings.upstream.max_attempts
    )
    reader = partition.role or "the gateway's own identity"
    try:
        answer = await runs.get_run(
            RunQuery(found.run_id, partition=partition), call=OneCall(until)
        )
    except GatewayError as error:
        is_denied = error.reason is Reason.UPSTREAM_ACCESS_DENIED
        # It names the action and the kind of policy.
        said = (f"AWS says: {error.debug}",) if is_denied and error.debug else ()
        problem = f"{found.run_id}, read by {reader}: {_refusal(error)}"
        return failed(problem, notes=said)
    status = RunStatus.Name(answer.run.status).removeprefix(_STATUS)
    return ok(f"{found.run_id} is {status}, read by {reader}")


def _partition(found: Found) -> Partition:
    """Return the identity to read with: a role only if every rule has one."""
    rules = found.settings.callers
    if rules and all(rule.aws_role for rule in rules):
        return next(partition for partition, _ in partitions_of(found))
    return OWN


def _refusal(error: GatewayError) -> str:
    """Return advice on an error, and how AWS's support finds it."""
    advice, answer = advice_of(error.reason), error.answer
    if answer is None:
        return advice
    if error.reason is Reason.UPSTREAM_TIMEOUT:
        advice = TIMED_OUT  # the network isn't at fault
    said = [answer.error_code or f"status {answer.http_status}"]
    said += [f"AWS request {answer.request_id}"] if answer.request_id else []
    return f"{advice} ({', '.join(said)})"
