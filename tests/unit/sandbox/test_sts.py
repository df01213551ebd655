"""The sandbox's STS over real sockets, called by AWS's client for Python."""

import asyncio
import contextlib
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from healthomics_gateway.sandbox import (
    ACCESS_KEY_ID,
    ACCOUNT_ID,
    REGION,
    SECRET_ACCESS_KEY,
    Sandbox,
)

ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/a"


async def ask(sandbox: Sandbox, operation: str, **more: Any) -> dict[str, Any]:
    """Return the answer as AWS's client reads it; keys replace the sandbox's."""
    keys = {
        "aws_access_key_id": more.pop("key_id", ACCESS_KEY_ID),
        "aws_secret_access_key": more.pop("secret", SECRET_ACCESS_KEY),
        "aws_session_token": more.pop("token", None),
    }
    client = boto3.client(
        "sts",
        endpoint_url=sandbox.url,
        region_name=more.pop("region", REGION),
        config=Config(retries={"total_max_attempts": 1}),
        **keys,
    )
    with contextlib.closing(client):
        return await asyncio.to_thread(getattr(client, operation), **more)


@pytest.mark.parametrize("token", [None, "token"])
async def test_sandbox_says_whose_its_credentials_are(token: str | None) -> None:
    """They are those of a user; calls don't count in the quota of HealthOmics."""
    async with Sandbox(quota_per_second=1, session_token=token) as sandbox:
        for _ in range(3):
            caller = await ask(sandbox, "get_caller_identity", token=token)

    assert ACCOUNT_ID == caller["Account"]
    assert f"arn:aws:iam::{ACCOUNT_ID}:user/sandbox" == caller["Arn"]


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        pytest.param({"key_id": "AKIDOTHER"}, "InvalidClientTokenId", id="key"),
        pytest.param({"token": "other"}, "InvalidClientTokenId", id="token"),
        pytest.param({"secret": "other"}, "SignatureDoesNotMatch", id="secret"),
        pytest.param({"region": "eu-west-1"}, "SignatureDoesNotMatch", id="region"),
    ],
)
async def test_other_credentials_are_refused(
    mistake: dict[str, str], code: str
) -> None:
    """The codes are those of STS, which differ from those of HealthOmics."""
    async with Sandbox() as sandbox:
        with pytest.raises(ClientError) as caught:
            await ask(sandbox, "get_caller_identity", **mistake)

    response = caught.value.response
    assert (403, code) == (
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Code"],
    )


async def test_roles_cannot_be_assumed() -> None:
    """The sandbox has none."""
    async with Sandbox() as sandbox:
        with pytest.raises(ClientError, match="InvalidAction"):
            await ask(sandbox, "assume_role", RoleArn=ROLE, RoleSessionName="a-b")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"Action=GetCallerIdentity", 403, "MissingAuthenticationToken"),
        (b"Action=%3Ca%3E%26", 400, "InvalidAction"),
    ],
)
async def test_unsigned_requests_get_an_error_in_xml(
    body: bytes, status: int, code: str
) -> None:
    """Whatever they contain."""
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession() as session,
        session.post(sandbox.url, data=body) as response,
    ):
        tree = ET.fromstring(await response.text())  # noqa: S314  # the sandbox's

    assert status == response.status
    assert "text/xml" == response.content_type
    assert code == tree.findtext(".//{*}Code")


async def test_post_without_an_action_is_another_operation() -> None:
    """It isn't one of STS."""
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession() as session,
        session.post(sandbox.url, data=b"\xff") as response,
    ):
        assert "UnknownOperationException" == response.headers["x-amzn-errortype"]
