"""Finds out the gateway's own AWS identity, which its replicas must have too."""

from __future__ import annotations

import asyncio

import structlog

from healthomics_gateway.app.wiring import UpstreamParts
from healthomics_gateway.backoff import backoff_seconds
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.shared.names import Names
from healthomics_gateway.upstream.provider import ChainError

IDENTITY_SECONDS = 5.0  # for AWS to say who the gateway is
MIN_AGAIN_SECONDS, MAX_AGAIN_SECONDS = 5.0, 300.0  # until it is asked again
SESSION_PARTS = 3  # of the resource of a role's session: assumed-role/ROLE/SESSION

_log = structlog.get_logger("shared")


async def learn_identity(names: Names, upstream: UpstreamParts) -> None:
    """Set the gateway's AWS identity in `names`, unless they have it; retry failures.

    Meanwhile only the quota and the limits of callers are shared.
    """
    failures = 0
    while not names.has_identity:
        try:
            async with asyncio.timeout(IDENTITY_SECONDS):
                account, identity = await identity_of(upstream)
        except (ChainError, GatewayError, TimeoutError) as error:
            if not failures:
                name = error.name if isinstance(error, ChainError) else ""
                why = name or type(error).__name__
                _log.warning("shared_identity_unknown", error=why)
        else:
            names.learn(account=account, identity=identity)
            return
        await asyncio.sleep(  # until AWS is asked again
            backoff_seconds(
                failures, base_seconds=MIN_AGAIN_SECONDS, max_seconds=MAX_AGAIN_SECONDS
            )
        )
        failures += 1


async def identity_of(upstream: UpstreamParts) -> tuple[str, str]:
    """Return the account and the identity of the gateway's own credentials.

    The sessions of a role are one identity. Without STS, as with the sandbox, the
    access key is the identity. Raises ChainError or GatewayError.
    """
    if not upstream.sts.has_client:
        credentials = await upstream.provider.credentials()
        return "", credentials.access_key
    caller = await upstream.sts.caller()
    return caller.account, without_session(caller.arn)


def without_session(arn: str) -> str:
    """Return an ARN of STS without the name of the session that it may have."""
    head, _, resource = arn.rpartition(":")
    parts = resource.split("/")
    if parts[0] == "assumed-role" and len(parts) >= SESSION_PARTS:
        resource = "/".join(parts[:-1])
    return f"{head}:{resource}"
