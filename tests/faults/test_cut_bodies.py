"""Responses that are cut, endless, slow or too large, and connections that close."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from testkit.builders import get_run, http, refused
from testkit.lying_upstream import (
    CANARY,
    CLOSE,
    HANG,
    RESET,
    TRUE_ID,
    Answer,
    Drip,
    LyingUpstream,
    Wait,
    true_run,
)
from testkit.rig import Rig
from testkit.upstream_certificates import Certified

ID, OTHER, THIRD = "2000011", "2000012", "2000013"
CAP = 4096  # bytes of a body
ATTEMPT_SECONDS = 0.3
SLACK_SECONDS = 0.4  # for a busy machine, per attempt
BACKOFF_SECONDS = 0.1  # the maximum before the third attempt
QUIET_SECONDS = 2.0  # until the fake HealthOmics has sent everything
ALIVE_TIMES = 100
CAPPED = {"GATEWAY_UPSTREAM__MAX_BODY_BYTES": str(CAP)}
IMPATIENT = dict.fromkeys(
    ("GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT", "GATEWAY_UPSTREAM__CONNECT_TIMEOUT"),
    f"{ATTEMPT_SECONDS * 1000:.0f}ms",
)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
LONGER = OK + b"content-length: 2000\r\n\r\n"
BEGUN = true_run(ID).encode()
CHUNK = b"400\r\n" + b" " * 1024 + b"\r\n"
SECOND = http(true_run(OTHER, name=CANARY))  # an unrequested response


def connections(rig: Rig, run_id: str = ID) -> list[int]:
    """Return the connection of each request about the test's run."""
    return [each.connection for each in rig.upstream.requests if each.run_id == run_id]


async def wait_until_sent(rig: Rig) -> None:
    """Wait until HealthOmics has sent all parts of its answers."""
    async with asyncio.timeout(QUIET_SECONDS):
        while rig.upstream.busy:  # noqa: ASYNC110  # a count, not an event
            await asyncio.sleep(0.005)  # the count falls when other tasks run


@pytest.mark.guarantee("invalid-bodies")
@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([LONGER + BEGUN, CLOSE], id="shorter-than-announced"),
        pytest.param([LONGER + BEGUN, Wait(0.02), RESET], id="reset"),
        pytest.param([LONGER, Wait(0.02), RESET], id="reset-before-the-body"),
        pytest.param([CHUNKED + b"10\r\n" + BEGUN[:5], CLOSE], id="cut-in-a-chunk"),
        pytest.param([CHUNKED + b"5\r\n{    \r\n", CLOSE], id="cut-between-chunks"),
    ],
)
async def test_cut_response_is_a_failed_connection(rigged: Any, parts: Answer) -> None:
    """A cut response is retried on other connections, and never taken for a run."""
    async with rigged() as rig:
        rig.upstream.lie(ID, parts, parts, parts, http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_CONNECTION)
        used = connections(rig)
        run = await rig.run(ID)

    assert 3 == len(used) == len(set(used))
    assert ID == run.id


# Places at which a body can end early. Some bodies contain a complete run by then.
ONE_CHUNK = b"%x\r\n%b\r\n" % (len(BEGUN), BEGUN)
LAST = OK + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
CUTS: dict[str, Answer] = {
    "shorter-than-announced": [LONGER + BEGUN, CLOSE],
    "nothing-of-what-was-announced": [LONGER, CLOSE],
    "before-any-chunk": [CHUNKED, CLOSE],
    "in-a-size": [CHUNKED + ONE_CHUNK + b"1", CLOSE],
    "in-an-extension": [CHUNKED + ONE_CHUNK + b"1;a=", CLOSE],
    "behind-a-size": [CHUNKED + ONE_CHUNK + b"1\r\n", CLOSE],
    "in-a-chunk": [CHUNKED + ONE_CHUNK[:-9], CLOSE],
    "behind-a-chunk": [CHUNKED + ONE_CHUNK[:-2], CLOSE],
    "before-the-last-chunk": [CHUNKED + ONE_CHUNK, CLOSE],
    "before-the-last-chunk-later": [CHUNKED + ONE_CHUNK, Wait(0.02), CLOSE],
    "before-the-last-chunk-by-reset": [CHUNKED + ONE_CHUNK, Wait(0.02), RESET],
    "before-the-last-chunk-of-the-last-answer": [LAST + ONE_CHUNK, CLOSE],
    "before-the-last-chunk-of-http-1.0": [
        CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + ONE_CHUNK,
        CLOSE,
    ],
    "in-the-last-chunk": [CHUNKED + ONE_CHUNK + b"0\r\n", CLOSE],
    "in-a-trailer": [CHUNKED + ONE_CHUNK + b"0\r\nx-a: b", CLOSE],
    "behind-a-trailer": [CHUNKED + ONE_CHUNK + b"0\r\nx-a: b\r\n", CLOSE],
}


@pytest.mark.fault(11)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
async def test_body_that_ends_early_is_a_failed_connection(
    rigged: Any, tmp_path: Path, *, is_tls: bool
) -> None:
    """A body that is cut anywhere, with or without TLS's close_notify, isn't a run."""
    certified = Certified() if is_tls else None
    aws = {"aws": certified.trusted_by(tmp_path)} if certified else {}
    once = {"GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}
    reasons = {}
    async with (
        LyingUpstream(tls=certified.context if certified else None) as upstream,
        rigged(upstream=upstream, **aws, **once) as rig,
    ):
        for name, parts in CUTS.items():
            upstream.lie(ID, http(true_run(ID)), parts, http(true_run(ID)))
            await rig.run(ID)  # so that a reused connection is cut
            refusal = await refused(get_run(rig.stub, ID))
            reasons[name] = refusal.reason
            await rig.run(ID)

    assert dict.fromkeys(CUTS, Reason.UPSTREAM_CONNECTION.name) == reasons


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([CLOSE], id="closed-without-a-word"),
        pytest.param([RESET], id="reset-without-a-word"),
        pytest.param([OK, CLOSE], id="cut-in-the-head"),
    ],
)
async def test_response_that_never_begins_is_a_failed_connection(
    rigged: Any, parts: Answer
) -> None:
    """On new connections nothing is replayed: three attempts send three requests."""
    async with rigged(is_truth_served=False) as rig:
        rig.upstream.lie(ID, parts, parts, parts, http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_CONNECTION)
        used = connections(rig)
        await rig.run(ID)

    assert 3 == len(used) == len(set(used))


@pytest.mark.fault(11)
async def test_response_that_is_cut_once_is_retried(rigged: Any) -> None:
    """After one cut body, the second request returns the run."""
    async with rigged() as rig:
        rig.upstream.lie(ID, [LONGER + BEGUN, RESET], http(true_run(ID)))
        await rig.run(ID)
        first, second = connections(rig)

    assert first != second


@pytest.mark.guarantee("invalid-bodies")
@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([OK + b"content-length: 4097\r\n\r\n", HANG], id="declared"),
        pytest.param(
            [OK + b"content-length: %d\r\n\r\n" % 10**18, HANG], id="declared-exabyte"
        ),
        pytest.param([CHUNKED, *[CHUNK] * 5, HANG], id="counted"),
        pytest.param([CHUNKED, *[CHUNK] * 5_000, HANG], id="endless-chunks"),
        pytest.param([OK + b"\r\n", *[b" " * 1024] * 5_000, HANG], id="until-closed"),
    ],
)
async def test_body_over_the_limit_is_left_unread(rigged: Any, parts: Answer) -> None:
    """A body over the limit is refused after one request; its connection is closed."""
    async with rigged(**CAPPED) as rig:
        rig.upstream.lie(ID, parts, http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_RESPONSE_TOO_LARGE)
        assert 1 == rig.upstream.asked[ID]
        run = await rig.run(ID)
        first, second = connections(rig)

    assert ID == run.id
    assert first != second
    assert 1 == rig.upstream.hung_up[ID]  # closed before its end


@pytest.mark.fault(11)
async def test_body_limit_is_exact(rigged: Any) -> None:
    """A body of exactly the limit is a run, and one with one byte more is refused."""
    text = true_run(ID)
    largest = text[:-1] + " " * (CAP - len(text)) + "}"
    async with rigged(**CAPPED) as rig:
        rig.upstream.lie(ID, http(largest), http(largest + " "))
        await rig.run(ID)
        await rig.refusal(ID, Reason.UPSTREAM_RESPONSE_TOO_LARGE)
        assert 2 == rig.upstream.asked[ID]


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    ("head", "reason", "calls"),
    [
        pytest.param(
            b"x-long: " + b"x" * 9000, Reason.UPSTREAM_RESPONSE_TOO_LARGE, 1, id="line"
        ),
        pytest.param(
            b"x-long: " + b"x" * 5_000_000,
            Reason.UPSTREAM_RESPONSE_TOO_LARGE,
            1,
            id="endless-line",
        ),
        pytest.param(
            b"\r\n".join(b"x-%d: y" % at for at in range(100_000)),
            Reason.UPSTREAM_MALFORMED_RESPONSE,
            2,
            id="endless-headers",
        ),
        pytest.param(b"no header", Reason.UPSTREAM_MALFORMED_RESPONSE, 2, id="none"),
    ],
)
async def test_invalid_head_is_left_unread(
    rigged: Any, head: bytes, reason: Reason, calls: int
) -> None:
    """A response head that is too long or invalid ends the attempt and connection."""
    answer = OK + head + b"\r\n\r\n"
    async with rigged() as rig:
        rig.upstream.lie(ID, *[[answer, HANG]] * calls, http(true_run(ID)))
        await rig.refusal(ID, reason)
        assert calls == rig.upstream.asked[ID]
        await rig.run(ID)
        used = connections(rig)

    assert len(used) == len(set(used))


@pytest.mark.guarantee("invalid-bodies")
@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([http(true_run(ID)) + SECOND], id="whole"),
        pytest.param([http(true_run(ID)) + SECOND[:20]], id="half"),
        pytest.param(
            [CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BEGUN), BEGUN) + SECOND],
            id="behind-chunks",
        ),
    ],
)
async def test_unrequested_response_is_not_used(rigged: Any, parts: Answer) -> None:
    """Bytes after a response are never the response to another request."""
    async with rigged() as rig:
        rig.upstream.lie(ID, parts)
        for _ in range(10):
            await rig.run(ID)
            run = await rig.run(OTHER)
            assert (OTHER, "germline") == (run.id, run.name)


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "late",
    [
        pytest.param(SECOND, id="whole"),
        pytest.param(SECOND[:-1], id="cut"),
        pytest.param(SECOND.partition(b"{")[0], id="head"),
        pytest.param(SECOND * 3, id="three"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="100"),
        pytest.param(http(CANARY, status=408, keep=False), id="farewell"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b"\0", id="nul"),
    ],
)
async def test_connection_with_unrequested_bytes_is_not_reused(
    rigged: Any, late: bytes
) -> None:
    """A connection that receives bytes while it is idle isn't used again."""
    parts = [http(true_run(ID)), Wait(0.02), late]
    async with rigged(is_truth_served=False) as rig:
        rig.upstream.lie(ID, parts)
        for _ in range(10):
            await rig.run(ID)
            await wait_until_sent(rig)
            run = await rig.run(OTHER)
            assert (OTHER, "germline") == (run.id, run.name)
            await rig.upstream.hang_up_idle()
        assert (10, 10) == (rig.upstream.asked[ID], rig.upstream.asked[OTHER])
        used = zip(connections(rig), connections(rig, OTHER), strict=True)

    assert [] == [one for one, other in used if one == other]


@pytest.mark.fault(11)
async def test_response_that_crosses_a_request_is_known_by_its_id(rigged: Any) -> None:
    """A response about another run, sent as a request arrives, isn't its answer."""
    parts = [http(true_run(ID)), Wait(10.0), SECOND, CLOSE]  # a request ends the wait
    async with rigged(is_truth_served=False) as rig:
        rig.upstream.lie(ID, parts)
        await rig.run(ID)
        run = await rig.run(THIRD)
        assert 1 == rig.upstream.asked[THIRD]  # the first response was never used
        assert 0 == rig.upstream.asked[OTHER]

    assert (THIRD, "germline") == (run.id, run.name)


def chunked(size: bytes) -> bytes:
    """Return a run in one chunk whose size is written as given."""
    return CHUNKED + size + b"\r\n" + BEGUN + b"\r\n0\r\n\r\n"


LENGTH = b"content-length: %d\r\n" % len(BEGUN)
WHOLE = LENGTH + b"\r\n" + BEGUN
SIZE = b"%x" % len(BEGUN)
MISFRAMED = {
    "two-lengths": OK + b"content-length: 5\r\n" + WHOLE,
    "negative-length": OK + b"content-length: -1\r\n\r\n" + BEGUN,
    "length-with-a-sign": OK + LENGTH.replace(b": ", b": +") + b"\r\n" + BEGUN,
    "length-and-chunks": chunked(SIZE).replace(b"transfer", LENGTH + b"transfer", 1),
    "unknown-coding": OK + b"transfer-encoding: xchunked\r\n" + WHOLE,
    "chunk-of-no-size": chunked(b""),
    "chunk-of-negative-size": chunked(b"-1"),
    "chunk-of-64-bits": chunked(b"f" * 17),
    "chunk-in-hexadecimal": chunked(b"0x" + SIZE),
    "chunk-longer-than-declared": chunked(b"5"),
    "no-head": BEGUN,
    "http-2": b"HTTP/2 200 OK\r\n" + WHOLE,
    "status-of-two-digits": b"HTTP/1.1 20 OK\r\n" + WHOLE,
    "space-before-a-colon": OK + b"x : y\r\n" + WHOLE,
    "nul-in-a-header": OK + b"x: a\0b\r\n" + WHOLE,
    "other-protocol": b"HTTP/1.1 101 Switch\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    + WHOLE,
}


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "lie", [pytest.param(each, id=name) for name, each in MISFRAMED.items()]
)
async def test_response_with_an_ambiguous_end_is_malformed(
    rigged: Any, lie: bytes
) -> None:
    """If a response's length is ambiguous, neither it nor what follows is read."""
    async with rigged() as rig:
        rig.upstream.lie(ID, lie, lie, http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 2 == rig.upstream.asked[ID]
        run = await rig.run(ID)
        used = connections(rig)

    assert (ID, "germline") == (run.id, run.name)
    assert 3 == len(used) == len(set(used))


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="100"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 500, id="many"),
        pytest.param(
            b"HTTP/1.1 103 Hints\r\nx-amzn-errortype: AccessDenied\r\n\r\n", id="103"
        ),
    ],
)
async def test_informational_responses_are_skipped(rigged: Any, before: bytes) -> None:
    """1xx responses aren't the response, whatever headers they have."""
    async with rigged() as rig:
        rig.upstream.lie(ID, before + http(true_run(ID)))
        await rig.run(ID)
        assert 1 == rig.upstream.asked[ID]


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([HANG], id="silence"),
        pytest.param([OK, HANG], id="silence-in-the-head"),
        pytest.param([LONGER, HANG], id="silence-before-the-body"),
        pytest.param([LONGER + BEGUN, HANG], id="silence-in-the-body"),
        pytest.param([CHUNKED, HANG], id="silence-before-a-chunk"),
        pytest.param([Drip(http(true_run(ID)), 0.05), HANG], id="drip-in-the-head"),
        pytest.param([LONGER, Drip(BEGUN, 0.05), HANG], id="drip-in-the-body"),
        pytest.param([http(b"", status=500, content_length="9"), HANG], id="no-code"),
    ],
)
async def test_slow_response_ends_with_its_attempt(rigged: Any, parts: Answer) -> None:
    """However slowly bytes come, the attempt ends in time and the next is made."""
    async with rigged(**IMPATIENT) as rig:
        rig.upstream.lie(ID, parts)
        await rig.refusal(ID, Reason.UPSTREAM_TIMEOUT)
        assert 3 == rig.upstream.asked[ID]
        at = [each.at for each in rig.upstream.requests if each.run_id == ID]
        used = connections(rig)

    longest = ATTEMPT_SECONDS + BACKOFF_SECONDS + SLACK_SECONDS
    assert [] == [each for each in pairwise(at) if each[1] - each[0] > longest]
    assert len(used) == len(set(used))


@pytest.mark.fault(13)
async def test_error_with_header_code_needs_no_body(rigged: Any) -> None:
    """If the header has the code, a body that stalls changes nothing."""
    head = http(b"", status=404, content_length="99", x_amzn_errortype="AccessDenied")
    async with rigged(**IMPATIENT) as rig:
        rig.upstream.lie(ID, [head, Drip(b" " * 99, 0.05), HANG])
        await rig.refusal(ID, Reason.UPSTREAM_ACCESS_DENIED)
        assert 1 == rig.upstream.asked[ID]


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "rest", [pytest.param([HANG], id="silence"), pytest.param(None, id="drip")]
)
async def test_error_with_header_code_waits_1_s_for_its_body(
    rigged: Any, rest: Answer | None
) -> None:
    """The body of an error with a code in its header has 1 s to end."""
    named = "ConflictException"
    head = http(b"", status=409, content_length="99", x_amzn_errortype=named)
    async with rigged() as rig:
        rig.upstream.lie(ID, [head, *(rest or [Drip(b" " * 99, 0.05)])])
        begun = asyncio.get_running_loop().time()
        await rig.refusal(ID, Reason.RUN_CONFLICT)
        lasted = asyncio.get_running_loop().time() - begun
        assert 1 == rig.upstream.asked[ID]

    assert 1.0 <= lasted <= 1.0 + SLACK_SECONDS
    assert 1 == rig.upstream.hung_up[ID]


@pytest.mark.fault(14)
async def test_connection_closed_between_requests_costs_nothing(rigged: Any) -> None:
    """A hundred idle connections that close cost no request."""
    async with rigged(is_truth_served=False) as rig:
        for _ in range(ALIVE_TIMES):
            await rig.run(ID)
            await rig.upstream.hang_up_idle()
        assert ALIVE_TIMES == rig.upstream.asked[ID]
        assert {TRUE_ID, ID} >= set(rig.upstream.asked)


@pytest.mark.fault(14)
@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_connection_closed_at_the_request_costs_one_replay(
    rigged: Any, end: str
) -> None:
    """Each reused connection that closes at a request costs one replay and no error."""
    async with rigged(is_truth_served=False) as rig:
        answer = http(true_run(ID))
        rig.upstream.lie(ID, *[answer, [end], answer] * ALIVE_TIMES)
        for _ in range(2 * ALIVE_TIMES):
            await rig.run(ID)
        assert 3 * ALIVE_TIMES == rig.upstream.asked[ID]
