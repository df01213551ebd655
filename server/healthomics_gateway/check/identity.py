"""Checks the gateway's credentials, who they are, and the roles that it assumes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC
from functools import partial

from healthomics_gateway.check.advice import UNREACHED, sts_advice
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.durations import elapsed_text
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import Partition
from healthomics_gateway.threads import AtMost
from healthomics_gateway.tls.files import when_text
from healthomics_gateway.upstream.credential_chain import SOURCES
from healthomics_gateway.upstream.credentials import SLOW
from healthomics_gateway.upstream.provider import ChainError

SHOWN = 4  # last characters of the access key
THREADS = 4  # that assume roles
SANDBOX = (
    "the credentials are a sandbox's, which AWS doesn't know; set AWS_ENDPOINT_URL_STS"
    " as the sandbox prints it"
)
NO_ROLES = "the sandbox has no roles; remove aws_role"
ROLE_DENIED = (
    "STS denies it; allow sts:AssumeRole and sts:SetSourceIdentity, in the role's trust"
    " policy and in the policy of the gateway's identity"
)


async def check_credentials(found: Found) -> Result:
    """Read the credential chain as the gateway does."""
    provider = found.own_provider()
    try:
        await provider.credentials()
    except GatewayError:
        return failed(_why(found.chain.error))
    credentials = found.chain.credentials
    key = getattr(credentials, "access_key", "")[-SHOWN:]
    method = getattr(credentials, "method", "")
    source = SOURCES.get(method, method or "unknown")
    expires = provider.expires_at
    expiry = "no known expiry"
    if expires is not None:
        left = elapsed_text(expires - found.now())
        expiry = f"expires in {left} ({when_text(expires.astimezone(UTC))})"
    return ok(f"access key ending in {key}, source: {source}, {expiry}")


def _why(error: ChainError | None) -> str:
    if error is None:
        return SLOW
    fields = error.log_fields
    advice = fields.get("advice") or "try it outside the gateway"
    source = f"{fields['source']}: " if "source" in fields else ""
    return f"{source}{advice} ({error.name})"


async def check_identity(found: Found) -> Result:
    """Ask STS whose credentials they are.

    The gateway needs STS only for rules with a role, and to share answers by a store.
    So without both, an STS that can't be reached is no fault.
    """
    if found.is_unknown_to_sts:
        return skipped(SANDBOX)
    try:
        caller = await found.upstream.sts.caller()
    except ChainError as error:
        is_unreached = error.name in UNREACHED
        has_role = any(rule.aws_role for rule in found.settings.callers)
        if is_unreached and not (has_role or found.settings.shared.url):
            unneeded = "Without aws_role and shared.url it isn't needed"
            return skipped(f"{sts_advice(error)}. {unneeded}")
        return failed(sts_advice(error), is_usable=is_unreached)
    return ok(f"{caller.arn} in account {caller.account}")


async def check_roles(found: Found) -> Result:
    """Assume the role of each rule once."""
    partitions = dict(partitions_of(found))
    if not partitions:
        return skipped("no rule has aws_role")
    if found.is_sandbox:
        return failed(*(f"{name}: {NO_ROLES}" for name in partitions.values()))
    threads, session = AtMost(THREADS, "aws-roles"), found.upstream.sts.session
    problems = await asyncio.gather(
        *(
            _problem(threads, name, partial(session, partition), partition.role)
            for partition, name in partitions.items()
        )
    )
    if faults := list(filter(None, problems)):
        return failed(*faults)
    number = len(partitions)
    return ok(f"{number} role{'s' if number > 1 else ''} can be assumed")


def partitions_of(found: Found) -> Iterator[tuple[Partition, str]]:
    """Yield what is assumed for a caller of each rule, once a role, and its setting.

    A caller of a rule with a pattern is made up.
    """
    seen = set()
    for at, rule in enumerate(found.settings.callers):
        if rule.aws_role and rule.aws_role not in seen:
            seen.add(rule.aws_role)
            identity = rule.identity.replace("*", "check")
            yield Partition(rule.aws_role, identity), f"callers[{at}].aws_role"


async def _problem(
    threads: AtMost, name: str, assume: Callable[[], object], role: str
) -> str | None:
    try:
        await threads.run(assume)
    except ChainError as error:
        is_denied = error.reason is Reason.UPSTREAM_ACCESS_DENIED
        why = f"{ROLE_DENIED} ({error.name})" if is_denied else sts_advice(error)
        return f"{name} {role}: {why}"
    return None
