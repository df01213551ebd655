"""Responses of a proxy in front of HealthOmics: pages, redirects, invalid bodies."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from testkit.builders import ALWAYS, http
from testkit.lying_upstream import ARN, CANARY, LyingUpstream, true_run

ID = "2000005"
PAGE = f"<html><title>{CANARY}</title>ResourceNotFoundException {ARN}</html>"
NOT_MODIFIED = 304
UNRECOGNIZED, UNAVAILABLE = Reason.UPSTREAM_UNRECOGNIZED, Reason.UPSTREAM_UNAVAILABLE


@pytest.mark.guarantee("upstream-responses", "proxy-pages")
@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("status", "reason", "calls"),
    [
        pytest.param(400, UNRECOGNIZED, 2, id="400"),
        pytest.param(401, UNRECOGNIZED, 2, id="401"),
        pytest.param(403, UNRECOGNIZED, 2, id="403"),
        pytest.param(404, UNRECOGNIZED, 2, id="404"),
        pytest.param(407, UNRECOGNIZED, 2, id="407"),
        pytest.param(408, Reason.UPSTREAM_TIMEOUT, 3, id="408"),
        pytest.param(418, UNRECOGNIZED, 2, id="418"),
        pytest.param(500, UNAVAILABLE, 3, id="500"),
        pytest.param(502, UNAVAILABLE, 3, id="502"),
        pytest.param(503, UNAVAILABLE, 3, id="503"),
        pytest.param(504, UNAVAILABLE, 3, id="504"),
        pytest.param(599, UNAVAILABLE, 3, id="599"),
    ],
)
async def test_page_of_a_proxy_is_classified_by_its_status(
    rigged: Any, status: int, reason: Reason, calls: int
) -> None:
    """A page is never "not found" or "denied", and none of its text is in the error."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(PAGE, status=status, content_type="text/html"))
        refusal = await rig.refusal(ID, reason)
        assert calls == rig.upstream.asked[ID]

    metadata = refusal.metadata
    assert (str(calls), str(status)) == (metadata["attempts"], metadata["httpStatus"])
    assert ("", "") == (metadata["awsErrorCode"], metadata["awsRequestId"])


@pytest.mark.fault(5)
async def test_429_without_code_is_a_throttle(rigged: Any) -> None:
    """A 429 without AWS's code is a throttle with a wait."""
    async with rigged() as rig:
        page = http(PAGE, status=429, x_amz_retry_after="3000")
        rig.upstream.lie(ID, page)
        refusal = await rig.refusal(ID, Reason.UPSTREAM_THROTTLED, seconds=2)
        assert 1 == rig.upstream.asked[ID]

    assert {*ALWAYS, "QuotaFailure", "RetryInfo"} == set(refusal.details)


@pytest.mark.fault(5)
async def test_page_before_an_answer_is_retried(rigged: Any) -> None:
    """After a sign-in page, or a 502 and a 403, the answer is returned."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(PAGE, status=404), http(true_run(ID)))
        await rig.run(ID)
        rig.upstream.lie(
            ID, http(PAGE, status=502), http(PAGE, status=403), http(true_run(ID))
        )
        await rig.run(ID)
        assert 3 == rig.upstream.asked[ID]


BODIES = {
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "number-as-type": b'{"__type":5,"code":null,"message":[]}',
    "type-without-code": b'{"__type":"ns#"}',
    "bad-utf-8": b'{"__type":"\xff"}',
    "cut": b'{"__type":"ResourceNotFoundException"',
    "5-mb": b'{"__type":"ResourceNotFoundException","message":"' + b"x" * 5_000_000,
    "deep": b"[" * 100_000,
    "gzip": gzip.compress(b'{"__type":"ResourceNotFoundException"}'),
}
each_body = pytest.mark.parametrize(
    "body", [pytest.param(body, id=name) for name, body in BODIES.items()]
)


def refused_with(body: bytes, status: int, **headers: str) -> bytes:
    """Return an error response of which only the head can be parsed."""
    encoding = {"content_encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
    return http(body, status=status, **encoding, **headers)


@pytest.mark.guarantee("upstream-responses")
@pytest.mark.fault(7)
@each_body
@pytest.mark.parametrize(
    ("status", "reason", "calls"),
    [
        pytest.param(404, UNRECOGNIZED, 2, id="404"),
        pytest.param(503, UNAVAILABLE, 3, id="503"),
    ],
)
async def test_error_without_code_is_classified_by_its_status(
    rigged: Any, body: bytes, status: int, reason: Reason, calls: int
) -> None:
    """Without a code in header and body the status decides."""
    async with rigged() as rig:
        rig.upstream.lie(ID, refused_with(body, status))
        await rig.refusal(ID, reason)
        assert calls == rig.upstream.asked[ID]


@pytest.mark.fault(7)
@each_body
async def test_header_code_counts_whatever_the_body_is(
    rigged: Any, body: bytes
) -> None:
    """A code in the header decides, even if the body is invalid."""
    async with rigged() as rig:
        rig.upstream.lie(ID, refused_with(body, 400, x_amzn_errortype="AccessDenied"))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_ACCESS_DENIED)
        assert 1 == rig.upstream.asked[ID]

    assert ("AccessDenied", "400") == (
        refusal.metadata["awsErrorCode"],
        refusal.metadata["httpStatus"],
    )


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("code", "reported"),
    [
        pytest.param("NewException", "NewException", id="unknown"),
        pytest.param("C" * 64, "C" * 64, id="64-letters"),
        pytest.param("C" * 65, "", id="65-letters"),
        pytest.param(f"Odd-{CANARY}", "", id="no-letters"),
        pytest.param("Odd Exception", "", id="space"),
        pytest.param("\u00c4nderung", "", id="no-ascii"),
    ],
)
async def test_unknown_code_is_reported_if_it_has_only_letters(
    rigged: Any, code: str, reported: str
) -> None:
    """An unknown code is unrecognized, and is in the metadata if it is safe."""
    body = json.dumps({"__type": code, "message": f"{CANARY} {ARN}"})
    async with rigged() as rig:
        rig.upstream.lie(ID, http(body, status=400), http(body, status=500))
        refusal = await rig.refusal(ID, UNRECOGNIZED)
        assert 1 == rig.upstream.asked[ID]
        again = await rig.refusal(ID, UNAVAILABLE)
        assert 4 == rig.upstream.asked[ID]

    assert (
        reported == refusal.metadata["awsErrorCode"] == again.metadata["awsErrorCode"]
    )


@pytest.mark.guarantee("upstream-responses", "trusted-endpoint")
@pytest.mark.fault(8)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirect_is_not_followed(rigged: Any, status: int) -> None:
    """A redirect is an error, whatever its location and code; no target is called."""
    page = "" if status == NOT_MODIFIED else PAGE  # a 304 never has a body
    async with LyingUpstream() as target, rigged() as rig:
        place = f"127.0.0.1:{target.port}/run/{ID}"
        locations = (f"http://{place}", f"//{place}", "/run/1000003", "http://[")
        headers = [
            *({"location": location} for location in locations),
            {"location": target.url, "x_amzn_errortype": "ConflictException"},
            {},
        ]
        for each in headers:
            rig.upstream.lie(ID, http(page, status=status, **each))
            refusal = await rig.refusal(ID, Reason.UPSTREAM_UNEXPECTED_REDIRECT)
            assert 1 == rig.upstream.asked[ID], each
            assert set(ALWAYS) == set(refusal.details)
            assert str(status) == refusal.metadata["httpStatus"]

    assert (0, []) == (target.accepted, target.requests)
