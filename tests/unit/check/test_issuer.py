"""The step about the keys of the issuer."""

from __future__ import annotations

from pathlib import Path

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.issuer import check_jwks
from healthomics_gateway.check.step import Result, Status
from healthomics_gateway.settings.load import load
from testkit.builders import http
from testkit.issuer import KeyServer, Signer, jwks

SETTINGS = {"GATEWAY_JWT__ISSUER": "https://i.test", "GATEWAY_JWT__AUDIENCE": "a"}


async def checked(**environ: str) -> Result:
    """Check the keys with these settings."""
    loaded = load(flags={}, environ=SETTINGS | environ)
    return await check_jwks(Found(environ={}, log_file=-1, loaded=loaded))


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
