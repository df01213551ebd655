"""The step about the keys of the issuer."""

from __future__ import annotations

from pathlib import Path

import pytest

from healthomics_gateway.check.configuration import check_settings
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.issuer import check_jwks
from healthomics_gateway.check.step import Result, Status
from testkit.builders import http
from testkit.issuer import KeyServer, Signer, jwks

SETTINGS = {"GATEWAY_JWT__ISSUER": "https://i.test", "GATEWAY_JWT__AUDIENCE": "a"}


async def checked(**environ: str) -> Result:
    """Check the keys with these settings."""
    found = Found(environ=SETTINGS | environ, log_file=-1)
    await check_settings(found)
    return await check_jwks(found)


async def test_keys_that_are_left_out_are_noted(tmp_path: Path) -> None:
    """It is no fault if others can be used."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(Signer("a"), Signer("b", "P-256"), Signer(None, "Ed448")))
    result = await checked(GATEWAY_JWT__JWKS_FILE=str(file))

    assert (Status.OK, "2 keys for ES256, RS256") == (result.status, result.detail)
    assert ("left out: a key without kid: its kty and crv aren't supported",) == (
        result.notes
    )


async def test_set_without_keys_is_a_fault(tmp_path: Path) -> None:
    """The issuer has published nothing."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks())
    result = await checked(GATEWAY_JWT__JWKS_FILE=str(file))

    assert "jwt.jwks_file: it has no usable key" in result.problems[0]
    assert result.problems[0].endswith("(it is empty)")


async def test_other_answer_than_keys_is_described() -> None:
    """The status and the content type show what answers."""
    async with KeyServer() as issuer:
        issuer.answer(http("no", status=404, keep=False, content_type="text/html"))
        result = await checked(GATEWAY_JWT__JWKS_URL=issuer.url)

    assert (
        "status 404, content type text/html; check that it is the URL"
        in (result.problems[0])
    )


async def test_query_of_the_url_is_not_shown() -> None:
    """It may have a key."""
    result = await checked(GATEWAY_JWT__JWKS_URL="http://127.0.0.1:1/k?key=canary")

    (problem,) = result.problems
    assert problem.startswith("jwt.jwks_url http://127.0.0.1:1/k?***: it can't be")


@pytest.mark.parametrize(
    "faulty",
    [
        {"GATEWAY_JWT__JWKS_URL": "http://me:canary@127.0.0.1:{port}/k?key=canary"},
        {"GATEWAY_JWT__AUDIENCE": ""},
        {"GATEWAY_JWT__ALGORITHMS": "none"},
        {"GATEWAY_JWT__TEA": "1"},
        {"GATEWAY_JWT__JWKS_TOKEN_FILE": "/dev/null/canary"},
    ],
    ids=lambda faulty: next(iter(faulty)),
)
async def test_faulty_settings_are_not_used(faulty: dict[str, str]) -> None:
    """The gateway wouldn't start with them, so nothing is sent to the issuer."""
    async with KeyServer(Signer("a")) as issuer:
        (name, value), url = *faulty.items(), {"GATEWAY_JWT__JWKS_URL": issuer.url}
        port = issuer.url.rpartition(":")[2].partition("/")[0]
        result = await checked(**url | {name: value.format(port=port)})

    assert (Status.SKIPPED, "needs the settings of jwt without a fault") == (
        result.status,
        result.detail,
    )
    assert 0 == issuer.asked
