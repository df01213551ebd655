"""The AWS identity that a gateway shares answers and watches with."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.own_identity import (
    MIN_AGAIN_SECONDS,
    identity_of,
    learn_identity,
    without_session,
)
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox import ACCESS_KEY_ID
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.upstream.provider import ChainError
from healthomics_gateway.upstream.sts import CallerIdentity
from testkit.builders import Sandbox, aws_at, gateway
from testkit.virtual_time import virtually

ROLE = "arn:aws:sts::123456789012:assumed-role/gateway"


@pytest.mark.parametrize(
    ("arn", "identity"),
    [
        (f"{ROLE}/canary-5f1d", ROLE),
        ("arn:aws:iam::123456789012:user/a/b", "arn:aws:iam::123456789012:user/a/b"),
        ("arn:aws:sts::1:federated-user/a", "arn:aws:sts::1:federated-user/a"),
        ("arn:aws:sts::1:assumed-role/a", "arn:aws:sts::1:assumed-role/a"),
        ("odd", ":odd"),
    ],
)
def test_sessions_of_a_role_are_one_identity(arn: str, identity: str) -> None:
    """Each replica has another session of the same role."""
    assert identity == without_session(arn)


async def test_access_key_is_the_identity_without_sts() -> None:
    """`serve --sandbox` has no STS; two keys may see different runs."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        assert ("", ACCESS_KEY_ID) == await identity_of(served.parts.upstream)


def test_identity_is_asked_for_again_until_it_is_known() -> None:
    """Meanwhile runs have no names, and the log says so once."""
    asked = 0

    async def caller() -> CallerIdentity:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, "NoCredentials")
        if asked == 2:
            await asyncio.sleep(60.0)  # in virtual time, as below
        return CallerIdentity("123456789012", f"{ROLE}/session")

    async def learn() -> None:
        names = Names(Sealer(b"secret"), region="us-east-1", endpoint="")
        upstream: Any = SimpleNamespace(
            sts=SimpleNamespace(has_client=True, caller=caller)
        )
        learning = asyncio.create_task(learn_identity(names, upstream))
        await asyncio.sleep(MIN_AGAIN_SECONDS - 1.0)
        assert names.run("1", role="", caller="") is None
        await learning
        assert names.run("1", role="", caller="") is not None

    with capture_logs() as logs:
        virtually(learn)

    assert 3 == asked
    assert ["NoCredentials"] == [each["error"] for each in logs]
