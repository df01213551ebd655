"""The steps about credentials, their identity and roles."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from healthomics_gateway.check.found import Found, RecordedChain
from healthomics_gateway.check.identity import (
    NO_ROLES,
    SANDBOX,
    check_credentials,
    check_identity,
    check_roles,
)
from healthomics_gateway.check.step import Status
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.settings.load import load
from healthomics_gateway.upstream.credentials import SLOW
from healthomics_gateway.upstream.provider import ChainError, FixedCredentials
from healthomics_gateway.upstream.sigv4 import Credentials as Signing
from testkit.checking import found_at
from testkit.sts_server import FakeSts, identified

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = "AKIDEXAMPLE7"
NOWHERE = "http://127.0.0.1:1"
BOTH = {f"AWS_ENDPOINT_URL_{name}": NOWHERE for name in ("OMICS", "STS")}
RULE = (
    '[[callers]]\nidentity = "anonymous"\naws_role = "arn:aws:iam::1234567890{}:role/r"'
)


def found_with(chain: Callable[[], Any], **more: Any) -> Found:
    """Return a beginning whose chain is this one."""
    chosen = {"environ": {}, "log_file": -1, "now": lambda: NOW} | more
    return Found(chain=RecordedChain(lambda **_: chain()), **chosen)


async def test_credentials_have_their_source_and_expiry() -> None:
    """The secret isn't shown, and the key only in part."""
    until = datetime.now(timezone(timedelta(hours=2))) + timedelta(hours=3)
    renewed = RefreshableCredentials(
        KEY, "secret", "token", until, dict, "container-role"
    )
    fixed = Credentials(KEY, "secret", method="own-method")
    temporary = await check_credentials(
        found_with(lambda: renewed, now=lambda: until - timedelta(hours=3))
    )
    lasting = await check_credentials(found_with(lambda: fixed))

    shown = "access key ending in PLE7, source:"
    end = f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert f"{shown} container, expires in 3h 0m ({end})" == temporary.detail
    assert f"{shown} own-method, no known expiry" == lasting.detail


async def test_source_without_advice_can_be_tried_elsewhere() -> None:
    """The name of the error is shown, with its source if that is known."""

    def fail() -> None:
        raise ChainError(
            Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, "OddError", source="web identity"
        )

    result = await check_credentials(found_with(fail))

    said = "web identity: try it outside the gateway (OddError)"
    assert (said,) == result.problems


async def test_source_that_does_not_answer_is_reported_as_slow() -> None:
    """The provider gives up by itself, without an error of the chain."""

    class Slow(FixedCredentials):
        async def credentials(self) -> Signing:
            raise GatewayError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)

    found = Found(environ={}, log_file=-1, provider=Slow(Signing("a", "b")))
    result = await check_credentials(found)

    assert (Status.FAILED, (SLOW,)) == (result.status, result.problems)
    await found.close()


@pytest.mark.parametrize(
    ("environ", "is_sandbox", "is_unknown"),
    [
        ({}, True, True),
        ({"AWS_ENDPOINT_URL_OMICS": NOWHERE}, True, True),
        ({"AWS_ENDPOINT_URL": NOWHERE}, True, False),
        (BOTH, True, False),
        (BOTH | {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:2"}, False, False),
    ],
)
async def test_sandbox_is_known_by_its_key_and_its_sts(
    environ: dict[str, str], *, is_sandbox: bool, is_unknown: bool
) -> None:
    """It has an STS of its own; another one may have roles."""
    found = Found(environ=environ, log_file=-1, fake_keys=frozenset({KEY}))
    found.chain.credentials = Credentials(KEY, "secret")

    assert (is_sandbox, is_unknown) == (found.is_sandbox, found.is_unknown_to_sts)


async def test_sandbox_has_neither_identity_nor_roles(tmp_path: Path) -> None:
    """A sandbox's credentials aren't sent to AWS, whatever the rules say."""
    file = tmp_path / "gateway.toml"
    file.write_text(RULE.format("12"))
    found = found_with(
        lambda: Credentials(KEY, "secret"),
        fake_keys=frozenset({KEY}),
        loaded=load(flags={}, environ={}, config_file=file),
    )
    await check_credentials(found)

    identity, roles = await check_identity(found), await check_roles(found)
    await found.close()

    assert (Status.SKIPPED, SANDBOX) == (identity.status, identity.detail)
    assert (f"callers[0].aws_role: {NO_ROLES}",) == roles.problems


async def test_answer_of_sts_without_an_arn_is_a_fault() -> None:
    """Such an answer isn't STS's."""
    async with FakeSts() as sts:
        sts.refuse("", identified(Account="123456789012"))
        async with found_at(sts.aws(NOWHERE)) as found:
            result = await check_identity(found)

    assert Status.FAILED is result.status
    assert "(KeyError)" in result.problems[0]


@pytest.mark.parametrize("number", [1, 2])
async def test_each_role_is_assumed_once(number: int, tmp_path: Path) -> None:
    """Rules may share a role."""
    file = tmp_path / "gateway.toml"
    rules = [RULE.format(12).replace("anonymous", f"uid:{at}") for at in range(2)]
    rules[1] = rules[1].replace("role/r", f"role/r{number}") if number > 1 else rules[1]
    socket = f'[[listeners]]\naddress = "unix:{tmp_path}/{{}}"\nidentity = "uid:{{}}"\n'
    file.write_text("\n".join([*(socket.format(at, at) for at in range(2)), *rules]))
    async with FakeSts() as sts, found_at(sts.aws(NOWHERE), file) as found:
        result = await check_roles(found)

    assert number == len(sts.assumed)
    plural = "s" if number > 1 else ""
    assert f"{number} role{plural} can be assumed" == result.detail
