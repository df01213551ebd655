"""Responses with status 2xx whose body isn't a run."""

from __future__ import annotations

import codecs
import gzip
import zlib
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox import REGION
from testkit.builders import ALWAYS, http
from testkit.lying_upstream import CANARY, HANG, true_run

ID = "2000010"
TRUE = true_run(ID).encode()


def with_member(text: str) -> str:
    """Return a run with one more member that isn't valid JSON."""
    return f'{true_run(ID)[:-1]}, "priority": {text}}}'


def with_name(name: bytes) -> bytes:
    """Return a run whose name has these bytes."""
    return TRUE.replace(b"germline", name)


@pytest.mark.guarantee("invalid-success")
@pytest.mark.fault(10)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("<html>Sign in</html>", id="html"),
        pytest.param(true_run(ID)[:-5], id="truncated"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param(true_run(ID) + "x", id="trailing"),
        pytest.param("\ufeff" + true_run(ID), id="bom"),
        pytest.param(true_run(ID)[:-1] + ', "priority": NaN}', id="nan"),
        pytest.param(" \r\n\t", id="space"),
        pytest.param("true", id="true"),
        pytest.param("1", id="number"),
        pytest.param(f'"{ID}"', id="text"),
        pytest.param(f"[{true_run(ID)}]", id="run-in-a-list"),
        pytest.param(true_run(ID)[:-1], id="without-its-last-byte"),
        pytest.param(true_run(ID) * 2, id="two-runs"),
        pytest.param(true_run(ID) + "\0", id="trailing-nul"),
        pytest.param(true_run(ID) + "\ufeff", id="trailing-bom"),
        pytest.param("\u00a0" + true_run(ID), id="space-that-is-none"),
        pytest.param(b"\xef\xbb\xbf" * 2 + TRUE, id="two-boms"),
        pytest.param(b"\xef\xbb\xbf", id="bom-alone"),
        pytest.param(b"\xef\xbb" + TRUE, id="half-a-bom"),
        pytest.param(codecs.BOM_UTF16_LE + TRUE.decode().encode("utf-16-le"), id="16"),
        pytest.param(TRUE.decode().encode("utf-16-be"), id="utf-16-be"),
        pytest.param(TRUE.decode().encode("utf-32"), id="utf-32"),
        pytest.param(gzip.compress(TRUE), id="gzip-untold"),
        pytest.param(with_member("Infinity"), id="infinity"),
        pytest.param(with_member("-Infinity"), id="minus-infinity"),
        pytest.param(with_member('{"deep": [NaN]}'), id="nan-deep"),
        pytest.param(with_member("01"), id="leading-zero"),
        pytest.param(with_member("+1"), id="plus"),
        pytest.param(with_member("1."), id="point-alone"),
        pytest.param(with_member(".5"), id="point-first"),
        pytest.param(with_member("0x1"), id="hexadecimal"),
        pytest.param(with_member("\u0661"), id="arabic-digit"),
        pytest.param(with_member("'1'"), id="other-quotes"),
        pytest.param(with_member("1,"), id="trailing-comma"),
        pytest.param(with_member("1 /* one */"), id="comment"),
        pytest.param(with_member(r'"\x41"'), id="unknown-escape"),
        pytest.param(with_member(r'"\u12"'), id="half-an-escape"),
        pytest.param(with_member('"a\nb"'), id="raw-newline"),
        pytest.param(with_member("True"), id="python"),
        pytest.param(with_member(""), id="no-value"),
    ],
)
async def test_success_without_a_json_object_is_malformed(
    rigged: Any, body: str | bytes
) -> None:
    """A 200 without a JSON object is malformed after one retry, and not cached."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(body), http(body), http(true_run(ID)))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 2 == rig.upstream.asked[ID]
        run = await rig.run(ID)
        assert 3 == rig.upstream.asked[ID]

    assert ALWAYS == set(refusal.details)
    assert {
        "runId": ID,
        "region": REGION,
        "attempts": "2",
        "awsErrorCode": "",
        "httpStatus": "200",
        "awsRequestId": "",
    } == refusal.metadata
    assert ID == run.id


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(with_name(b"\xff"), id="no-byte-of-it"),
        pytest.param(with_name(b"\xc3"), id="half-a-character"),
        pytest.param(with_name(b"\xa9"), id="other-half"),
        pytest.param(with_name(b"\xc0\xaf"), id="overlong"),
        pytest.param(with_name(b"\xed\xa0\x80"), id="surrogate"),
        pytest.param(with_name(b"\xed\xa0\xbd\xed\xb4\xa5"), id="cesu-8"),
        pytest.param(with_name(b"\xf4\x90\x80\x80"), id="beyond-unicode"),
        pytest.param(with_name("caf\u00e9".encode("latin-1")), id="latin-1"),
        pytest.param(TRUE + b"\x80", id="behind-the-object"),
    ],
)
async def test_success_that_is_not_utf_8_is_malformed(rigged: Any, body: bytes) -> None:
    """A body that isn't UTF-8 is malformed; no byte of it is replaced."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(body), http(body), http(true_run(ID)))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 2 == rig.upstream.asked[ID]
        run = await rig.run(ID)

    assert ALWAYS == set(refusal.details)
    assert "germline" == run.name


@pytest.mark.fault(10)
@pytest.mark.parametrize("status", [201, 202, 203, 204, 205, 206, 226, 299])
async def test_other_success_without_a_json_object_is_malformed(
    rigged: Any, status: int
) -> None:
    """Another 2xx without a JSON object is malformed, like a 200."""
    body = "" if status in {204, 205} else f"<html>{CANARY}</html>"
    async with rigged() as rig:
        rig.upstream.lie(ID, http(body, status=status))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 2 == rig.upstream.asked[ID]

    assert str(status) == refusal.metadata["httpStatus"]


@pytest.mark.fault(10)
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", gzip.compress(TRUE), id="gzip"),
        pytest.param("GZip", gzip.compress(TRUE), id="any-case"),
        pytest.param("x-gzip", gzip.compress(TRUE), id="x-gzip"),
        pytest.param("deflate", zlib.compress(TRUE), id="deflate"),
        pytest.param("br", TRUE, id="brotli"),
        pytest.param("identity, gzip", gzip.compress(TRUE), id="two"),
        pytest.param("gzip", TRUE, id="only-declared"),
        pytest.param("gzip", gzip.compress(TRUE)[:20], id="cut"),
        pytest.param("gzip", gzip.compress(b" " * 50_000_000), id="bomb"),
        pytest.param(CANARY, TRUE, id="unknown"),
    ],
)
async def test_compressed_success_is_malformed(
    rigged: Any, encoding: str, body: bytes
) -> None:
    """A compressed body, which wasn't requested, is malformed, without a retry."""
    async with rigged() as rig:
        answer = http(body, content_encoding=encoding)
        rig.upstream.lie(ID, answer, http(true_run(ID)))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 1 == rig.upstream.asked[ID]
        await rig.run(ID)
        asked = [each for each in rig.upstream.requests if each.run_id == ID]

    assert (ALWAYS, "1") == (set(refusal.details), refusal.metadata["attempts"])
    assert ["identity"] * 2 == [each.headers["accept-encoding"] for each in asked]


@pytest.mark.fault(10)
async def test_compressed_success_is_refused_before_its_end(rigged: Any) -> None:
    """A compressed body is refused before it ends, and its connection is closed."""
    begun = http(TRUE, content_encoding="gzip", content_length="99999")
    async with rigged() as rig:
        rig.upstream.lie(ID, [begun, HANG], http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE, seconds=2.0)
        assert 1 == rig.upstream.asked[ID]
        await rig.run(ID)
        first, second = [
            each.connection for each in rig.upstream.requests if each.run_id == ID
        ]

    assert first != second
    assert 1 == rig.upstream.hung_up[ID]


@pytest.mark.fault(10)
@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_success_with_identity_encoding_is_read(
    rigged: Any, encoding: str
) -> None:
    """The header may name the encoding `identity`, which was requested."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(true_run(ID), content_encoding=encoding))
        run = await rig.run(ID)
        assert 1 == rig.upstream.asked[ID]

    assert (ID, "germline") == (run.id, run.name)
