"""The steps about the endpoint, the clock and a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials

from healthomics_gateway.check.configuration import proxy_text
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.healthomics import (
    NOT_OF_AWS,
    check_clock,
    check_endpoint,
    check_run,
)
from healthomics_gateway.check.identity import NO_ROLES
from healthomics_gateway.check.step import Status
from healthomics_gateway.sandbox import ACCESS_KEY_ID
from healthomics_gateway.upstream.reply import Reply
from testkit.builders import Sandbox, aws_at, http
from testkit.checking import found_at
from testkit.connections import ConnectionServer
from testkit.lying_upstream import TRUE_ID, LyingUpstream, said
from testkit.sts_server import FakeSts
from testkit.sts_sessions import SessionUpstream

ROLES = [f"arn:aws:iam::123456789012:role/{each}" for each in ("one", "two")]
SERVED = "[[listeners]]\naddress = 'unix:{}/{}'\nidentity = 'uid:{}'\n"
RULE = "[[callers]]\nidentity = 'uid:{}'\n"


async def test_proxy_that_refuses_is_named_without_its_password() -> None:
    """The status of the proxy shows that it, and not AWS, has answered."""

    async def refuse(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(status=407, keep=False))
        await writer.drain()

    async with ConnectionServer(refuse) as proxy:
        url = f"http://user:canary@127.0.0.1:{proxy.port}"
        aws = replace(aws_at("https://omics.example.org"), proxy=url)
        async with found_at(aws) as found:
            result = await check_endpoint(found)

    (problem,) = result.problems
    assert f"through the proxy 127.0.0.1:{proxy.port}: the connection fails" in problem
    assert "status 407 of the proxy" in problem
    assert "canary" not in problem
    assert "the proxy example.org" == proxy_text("http://example.org")


async def test_endless_headers_are_not_of_a_proxy() -> None:
    """Without a proxy none is named, whatever status the parser reports."""
    async with LyingUpstream() as upstream:
        upstream.lie("", b"HTTP/1.1 200 OK\r\na: " + b"a" * 100_000)
        async with found_at(aws_at(upstream.url)) as found:
            result = await check_endpoint(found)

    (problem,) = result.problems
    assert "the answer is too large; check that the endpoint is AWS's" in problem
    assert "proxy" not in problem


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (http("<p>Welcome</p>", content_type="text/html"), "can't be read"),
        (http(status=302, location="https://portal.test"), "set AWS_ENDPOINT_URL"),
        (http("[]", content_length="99999999999"), "can't be read"),
    ],
    ids=["page", "portal", "endless"],
)
async def test_answer_that_is_no_refusal_is_a_fault(answer: bytes, advice: str) -> None:
    """AWS refuses a request without a signature, so another server has answered."""
    async with LyingUpstream() as upstream:
        upstream.lie("", answer)
        async with found_at(aws_at(upstream.url)) as found:
            result = await check_endpoint(found)

    assert (Status.FAILED, False) == (result.status, result.is_usable)
    assert advice in result.problems[0]
    assert found.reply is None


@pytest.mark.parametrize(
    ("headers", "notes"),
    [
        ({}, (NOT_OF_AWS,)),
        ({"x_amzn_requestid": "1"}, ()),
        ({"x_amzn_errortype": "AccessDenied"}, ()),
    ],
    ids=["bare", "id", "code"],
)
async def test_refusal_without_headers_of_aws_has_a_note(
    headers: dict[str, str], notes: tuple[str, ...]
) -> None:
    """Any server may answer with 404."""
    async with LyingUpstream() as upstream:
        upstream.lie("", http(status=404, **headers))
        async with found_at(aws_at(upstream.url)) as found:
            result = await check_endpoint(found)

    assert (Status.OK, notes) == (result.status, result.notes)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Date": "garbage"},
        {"Date": "Fri, 31 Dec 9999 23:59:59 -1400"},
        {"Date": "Wed, 01 Jan 1800 00:00:00 GMT"},
    ],
    ids=["none", "garbage", "future", "past"],
)
async def test_clock_needs_a_date(headers: dict[str, str]) -> None:
    """Without a usable date in the answer the clock can't be compared."""
    found = Found(environ={}, log_file=-1)
    found.reply = Reply(403, headers, b""), datetime.now(UTC)
    result = await check_clock(found)

    assert (Status.SKIPPED, True) == (result.status, result.is_usable)
    assert "has no date" in result.detail


async def test_run_is_read_with_a_role_if_every_rule_has_one(tmp_path: Path) -> None:
    """The gateway's own identity then needs no permission to read runs."""
    file = tmp_path / "gateway.toml"
    listeners = "".join(SERVED.format(tmp_path, at, at) for at in range(2))
    rules = [RULE.format(at) + f"aws_role = '{ROLES[at]}'\n" for at in range(2)]
    readers = []
    async with FakeSts() as sts, SessionUpstream(sts.given) as upstream:
        for written in ("".join(rules), rules[0] + RULE.format(1)):
            file.write_text(listeners + written, encoding="utf-8")
            aws = sts.aws(upstream.url)
            async with found_at(aws, file, run_id=TRUE_ID) as found:
                result = await check_run(found)
            readers.append(result.detail.partition("read by ")[2])

    assert [ROLES[0], "the gateway's own identity"] == readers
    assert [True, False] == [bool(sts.name_of(each)) for each in upstream.requests]


async def test_run_that_no_server_answers_for_has_advice() -> None:
    """Without an answer there is no code, and with one there may be none either."""
    async with LyingUpstream() as upstream:
        upstream.lie(TRUE_ID, said(404))
        async with found_at(aws_at(upstream.url), run_id=TRUE_ID) as found:
            bare = await check_run(found)
    async with found_at(aws_at(upstream.url), run_id=TRUE_ID) as found:
        nothing = await check_run(found)

    assert "the error isn't one of AWS's" in bare.problems[0]
    assert "(status 404, AWS request " in bare.problems[0]
    assert nothing.problems[0].endswith("and the proxy let it pass")


async def test_timeout_that_aws_reports_is_not_of_the_network() -> None:
    """An answer has come, so no firewall is in the way."""
    async with LyingUpstream() as upstream:
        upstream.lie(TRUE_ID, said(408))
        async with found_at(aws_at(upstream.url), run_id=TRUE_ID) as found:
            result = await check_run(found)

    assert "HealthOmics answers that it was too slow; try again" in result.problems[0]
    assert "firewalls" not in result.problems[0]


async def test_run_of_a_sandbox_is_not_read_with_a_role(tmp_path: Path) -> None:
    """It has no roles, which isn't a fault of credentials."""
    file = tmp_path / "gateway.toml"
    served = SERVED.format(tmp_path, 0, 0)
    file.write_text(f"{served}{RULE.format(0)}aws_role = '{ROLES[0]}'\n")
    async with Sandbox() as sandbox:
        aws = aws_at(sandbox.url)
        keys = frozenset({ACCESS_KEY_ID})
        async with found_at(aws, file, run_id=TRUE_ID, fake_keys=keys) as found:
            found.chain.credentials = Credentials(ACCESS_KEY_ID, "secret")
            found.environ = {}
            result = await check_run(found)

    assert (Status.SKIPPED, f"every rule has aws_role, and {NO_ROLES}") == (
        result.status,
        result.detail,
    )
