"""How the sandbox verifies signatures, over real sockets."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from healthomics_gateway.sandbox import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    Sandbox,
)

TARGET = "/run/1000003"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Answer(NamedTuple):
    """The answer to a request, with the code and message of an error."""

    status: int
    code: str = ""
    message: str = ""


ACCEPTED = Answer(200)


def signed(
    sandbox: Sandbox,
    *,
    target: str = TARGET,
    key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    token: str | None = None,
    region: str = REGION,
    service: str = "omics",
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a request that botocore has just signed."""
    request = AWSRequest("GET", sandbox.url + target, headers=headers or {})
    SigV4Auth(Credentials(key_id, secret, token), service, region).add_auth(request)
    return dict(request.headers.items())


async def send(
    sandbox: Sandbox,
    headers: dict[str, str],
    *,
    target: str = TARGET,
    body: bytes | None = None,
) -> Answer:
    """Send one GET to the sandbox."""
    url = URL(sandbox.url + target, encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, data=body) as response,
    ):
        answer = await response.json()
        code = response.headers.get("x-amzn-errortype", "")
        return Answer(response.status, code, answer.get("message", ""))


async def test_signature_of_the_sandbox_key_is_accepted() -> None:
    """A request that botocore signed is answered."""
    async with Sandbox() as sandbox:
        assert ACCEPTED == await send(sandbox, signed(sandbox))


async def test_missing_signature_is_refused() -> None:
    """A request without `Authorization` has no authentication token."""
    async with Sandbox() as sandbox:
        refused = await send(sandbox, {})

    assert (403, "MissingAuthenticationTokenException") == refused[:2]


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        pytest.param({"key_id": "AKIDOTHER"}, "UnrecognizedClientException", id="key"),
        pytest.param({"token": "other"}, "UnrecognizedClientException", id="token"),
        pytest.param({"secret": "other"}, "InvalidSignatureException", id="secret"),
        pytest.param({"region": "eu-west-1"}, "InvalidSignatureException", id="region"),
        pytest.param({"service": "s3"}, "InvalidSignatureException", id="service"),
        pytest.param(
            {"target": "/run/1000004"}, "InvalidSignatureException", id="path"
        ),
        pytest.param(
            {"target": f"{TARGET}?export=DEFINITION"},
            "InvalidSignatureException",
            id="query",
        ),
    ],
)
async def test_signature_of_another_request_is_refused(
    mistake: dict[str, Any], code: str
) -> None:
    """A signature by another key, or for another request, is refused."""
    async with Sandbox() as sandbox:
        refused = await send(sandbox, signed(sandbox, **mistake))

    assert (403, code) == refused[:2]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("AWS4-HMAC-SHA256", "Bearer", id="scheme"),
        pytest.param("/aws4_request", "", id="scope"),
        pytest.param("SignedHeaders=", "Headers=", id="headers"),
        pytest.param("Signature=", "Signature=é", id="not-ascii"),
    ],
)
async def test_malformed_signature_is_incomplete(old: str, new: str) -> None:
    """An `Authorization` that isn't SigV4's is an IncompleteSignatureException."""
    async with Sandbox() as sandbox:
        headers = signed(sandbox)
        headers["Authorization"] = headers["Authorization"].replace(old, new)
        refused = await send(sandbox, headers)

    assert (403, "IncompleteSignatureException") == refused[:2]


async def test_signature_without_a_time_is_incomplete() -> None:
    """A request without `X-Amz-Date` can't be verified."""
    async with Sandbox() as sandbox:
        headers = signed(sandbox)
        del headers["X-Amz-Date"]
        refused = await send(sandbox, headers)

    assert (403, "IncompleteSignatureException") == refused[:2]


async def test_signature_of_another_day_is_refused() -> None:
    """The day in the credential scope must be that of `X-Amz-Date`."""
    async with Sandbox() as sandbox:
        headers = signed(sandbox)
        day = headers["X-Amz-Date"][:8]
        headers["Authorization"] = headers["Authorization"].replace(day, "20200101")
        refused = await send(sandbox, headers)

    assert (403, "InvalidSignatureException") == refused[:2]


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        pytest.param(timedelta(minutes=6), "Signature expired", id="late"),
        pytest.param(timedelta(minutes=-6), "Signature not yet current", id="early"),
    ],
)
async def test_signature_of_another_time_is_refused(
    offset: timedelta, words: str
) -> None:
    """A clock more than five minutes off is refused, with AWS's message."""
    async with Sandbox(now=lambda: datetime.now(UTC) + offset) as sandbox:
        refused = await send(sandbox, signed(sandbox))

    assert (403, "InvalidSignatureException") == refused[:2]
    assert refused.message.startswith(words)


@pytest.mark.parametrize("minutes", [-4, 4])
async def test_signature_a_few_minutes_off_is_accepted(minutes: int) -> None:
    """Clocks may differ by up to five minutes."""
    offset = timedelta(minutes=minutes)
    async with Sandbox(now=lambda: datetime.now(UTC) + offset) as sandbox:
        assert ACCEPTED == await send(sandbox, signed(sandbox))


async def test_session_token_is_required() -> None:
    """With a session token, the credentials are accepted only with it."""
    async with Sandbox(session_token="the-one") as sandbox:
        assert ACCEPTED == await send(sandbox, signed(sandbox, token="the-one"))
        refused = await send(sandbox, signed(sandbox))

    assert (403, "UnrecognizedClientException") == refused[:2]


async def test_unsigned_amz_header_is_refused() -> None:
    """An `x-amz-` header that was added after signing is refused."""
    async with Sandbox() as sandbox:
        refused = await send(sandbox, signed(sandbox) | {"X-Amz-Meta-More": "1"})

    assert (403, "InvalidSignatureException") == refused[:2]
    assert "x-amz-meta-more" in refused.message


async def test_other_header_may_be_unsigned() -> None:
    """Headers that needn't be signed may be added."""
    async with Sandbox() as sandbox:
        assert ACCEPTED == await send(
            sandbox, signed(sandbox) | {"traceparent": "00-1-1"}
        )


async def test_changed_signed_header_is_refused() -> None:
    """A signed header that was changed or removed breaks the signature."""
    async with Sandbox() as sandbox:
        headers = signed(sandbox, headers={"x-project": "giab"})
        assert ACCEPTED == await send(sandbox, headers)
        changed = await send(sandbox, headers | {"x-project": "other"})
        del headers["x-project"]
        gone = await send(sandbox, headers)

    assert (403, "InvalidSignatureException") == changed[:2] == gone[:2]


async def test_changed_body_is_refused() -> None:
    """A body that wasn't signed is refused, with or without its digest."""
    async with Sandbox() as sandbox:
        plain = signed(sandbox)
        announced = signed(sandbox, headers={"X-Amz-Content-SHA256": EMPTY_SHA256})
        assert ACCEPTED == await send(sandbox, announced)
        refused = [await send(sandbox, each, body=b"x") for each in (plain, announced)]

    assert ["InvalidSignatureException"] * 2 == [each.code for each in refused]


async def test_query_is_canonical() -> None:
    """Order and encoding of the query don't matter, as with AWS."""
    sent = f"{TARGET}?export=DEFINITI%4fN&export=DEFINITION"
    canonical = f"{TARGET}?export=DEFINITION&export=DEFINITION"
    async with Sandbox() as sandbox:
        headers = signed(sandbox, target=canonical)
        assert ACCEPTED == await send(sandbox, headers, target=sent)


async def test_bytes_that_are_not_utf_8_are_refused() -> None:
    """A signed header in another encoding is refused without a crash."""
    async with Sandbox() as sandbox:
        headers = signed(sandbox, headers={"x-project": "giab", "Connection": "close"})
        lines = [f"GET {TARGET} HTTP/1.1", f"Host: {sandbox.url[7:]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode()
        reader, writer = await asyncio.open_connection(*sandbox.url[7:].split(":"))
        with contextlib.closing(writer):
            writer.write(request.replace(b"giab", b"\xe9"))
            answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 403")
    assert b"x-amzn-errortype: InvalidSignatureException" in answer
