"""One attempt, over real HTTP: signed, sent and read, and what it teaches."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trustme
from google.protobuf.timestamp_pb2 import Timestamp
from multidict import CIMultiDict, CIMultiDictProxy

from healthomics.v1.run_pb2 import RUN_EXPORT_DEFINITION, RUN_STATUS_RUNNING, RunExport
from healthomics_gateway.errors.exceptions import Again, AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import (
    NOT_ASKED,
    Answer,
    Call,
    OneCall,
    RunQuery,
    UpstreamInfo,
)
from healthomics_gateway.sandbox import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    ReceivedRequest,
    Sandbox,
)
from healthomics_gateway.sandbox.signature import verify
from healthomics_gateway.upstream import clock as clocks
from healthomics_gateway.upstream.healthomics import LOOP_BYTES, HealthOmics
from healthomics_gateway.upstream.identity import FixedIdentity, Identity
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.upstream.transport import Transport
from testkit.builders import Upstream, http

RUN_ID = "1000003"
MINE = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
WRONG = Credentials("AKIDNOBODY", "hush")
UNAVAILABLE = GatewayError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)
SILENCE = 60.0
SOON_SECONDS = 0.1  # a time limit that is waited for
MINUTES_20 = timedelta(minutes=20)


class Clock:
    """The gateway's clock, and AWS's beside it, set by hand."""

    def __init__(self, skew: timedelta = timedelta(0)) -> None:
        self.time = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.skew = skew  # what AWS's is ahead

    def ours(self) -> datetime:
        """Tells our time."""
        return self.time

    def theirs(self) -> datetime:
        """Tells AWS's."""
        return self.time + self.skew


class Keyring:
    """An identity that has `current` until it is renewed to `following`.

    What is an error is raised.
    """

    def __init__(
        self,
        current: Credentials | Exception = MINE,
        following: Credentials | Exception = MINE,
    ) -> None:
        self._current = current
        self._following = following
        self.refused: list[Credentials] = []

    def follow(self, following: Credentials) -> None:
        """Gives others the next time that it is renewed."""
        self._following = following

    async def credentials(self) -> Credentials:
        """Gives what it has."""
        return _given(self._current)

    async def renew(self, refused: Credentials) -> bool:
        """Gives what follows, from now on."""
        self.refused.append(refused)
        self._current = _given(self._following)
        return self._current != refused

    async def close(self) -> None:
        """Has nothing to end."""


def _given(what: Credentials | Exception) -> Credentials:
    if isinstance(what, Exception):
        raise what
    return what


class Source:
    """A HealthOmics, and what it reports."""

    def __init__(
        self,
        transport: Transport,
        endpoint: str,
        identity: Identity,
        now: Callable[[], datetime],
    ) -> None:
        self.reports: list[Reason | None] = []
        self._source = HealthOmics(
            transport,
            identity,
            region=REGION,
            endpoint=endpoint,
            report=self.reports.append,
            clock=clocks.Clock(now),
        )

    async def ask(
        self,
        run_id: str = RUN_ID,
        *export: RunExport.ValueType,
        call: Call | None = None,
    ) -> Answer:
        """Makes one attempt, in ten seconds at most."""
        async with asyncio.timeout(10):
            return await self._source.get_run(
                RunQuery(run_id, export), call=call or OneCall(inf)
            )

    async def refusal(self, run_id: str = RUN_ID) -> GatewayError:
        """Returns how an attempt must fail."""
        with pytest.raises(GatewayError) as caught:
            await self.ask(run_id)
        error: GatewayError = caught.value
        if error.fix:
            async with asyncio.timeout(10):
                error = await error.fix()
        return error

    async def row(self, run_id: str = RUN_ID) -> tuple[Reason, Again]:
        """Returns what the failure is, and whether the gateway tries again."""
        error = await self.refusal(run_id)
        return error.reason, error.again


@asynccontextmanager
async def source(
    endpoint: str,
    identity: Identity | None = None,
    *,
    ca_file: Path | None = None,
    attempt_seconds: float = 30.0,
    now: Callable[[], datetime] = clocks.utc_now,
) -> AsyncIterator[Source]:
    """Opens a HealthOmics that asks `endpoint`."""
    with trustme.CA().cert_pem.tempfile() as nobody:
        transport = Transport(
            ca_file=str(ca_file or nobody),
            max_connections=32,
            connect_timeout_seconds=5.0,
            attempt_timeout_seconds=attempt_seconds,
            max_body_bytes=2_000_000,
        )
    try:
        yield Source(transport, endpoint, identity or FixedIdentity(MINE), now)
    finally:
        await transport.close()


def run_body(run_id: Any = RUN_ID, **members: Any) -> bytes:
    """Writes a run as AWS does."""
    members = {"id": run_id, "status": "RUNNING"} | members
    return json.dumps(members).encode()


def refusing(code: str, *, status: int = 403, **headers: str) -> bytes:
    """Writes an error as AWS does."""
    body = json.dumps({"message": "Said."})
    return http(body, status=status, x_amzn_errortype=code, **headers)


def received(head: str) -> ReceivedRequest:
    """Reads the head of a request."""
    first, *lines = head.split("\r\n")
    path, _, query = first.split(" ")[1].partition("?")
    headers = CIMultiDict[str]()
    for line in filter(None, lines):
        name, _, value = line.partition(": ")
        headers.add(name, value)
    return ReceivedRequest(
        method="GET",
        path=path,
        query=query,
        headers=CIMultiDictProxy(headers),
        body=b"",
    )


def signed_at(head: str) -> datetime:
    """Returns the time by which a request is signed."""
    text = received(head).headers["x-amz-date"]
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


# Where an answer is read.


async def test_large_answer_is_read_where_others_work_hangs() -> None:
    """It has threads of its own, as the look-up of the name that it came from.

    Those that asyncio lends may all be taken.
    """
    ends = threading.Event()
    loop = asyncio.get_running_loop()
    hung = [loop.run_in_executor(None, ends.wait, 10) for _ in range(64)]
    body = run_body(name="x" * 2 * LOOP_BYTES)
    try:
        async with Upstream(http(body)) as upstream:
            url = upstream.url.replace("127.0.0.1", "localhost")
            async with source(url) as asked:
                answer = await asked.ask()
    finally:
        ends.set()
        await asyncio.gather(*hung)

    assert 2 * LOOP_BYTES == len(answer.run.name)


# What is asked.


@pytest.mark.guarantee("signatures")
@pytest.mark.parametrize(
    ("export", "query"),
    [
        pytest.param((), "", id="no-export"),
        pytest.param((RUN_EXPORT_DEFINITION,), "export=DEFINITION", id="definition"),
    ],
)
@pytest.mark.parametrize("token", [None, "a/session+token=="])
async def test_request_is_signed_as_it_is_sent(
    export: tuple[RunExport.ValueType, ...], query: str, token: str | None
) -> None:
    """The sandbox, which verifies every signature, answers each kind of request."""
    identity = FixedIdentity(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token))
    async with (
        Sandbox(session_token=token) as sandbox,
        source(sandbox.url, identity) as asked,
    ):
        answer = await asked.ask(RUN_ID, *export)
        host = sandbox.url.removeprefix("http://")

    (request,) = sandbox.requests
    assert (f"/run/{RUN_ID}", query) == (request.path, request.query)
    assert (RUN_ID, bool(export)) == (answer.run.id, answer.run.HasField("definition"))
    assert host == request.headers["host"]
    agent = f"healthomics-gateway/{version('healthomics-gateway')}"
    assert agent == request.headers["user-agent"]
    assert "identity" == request.headers["accept-encoding"]
    assert token == request.headers.get("x-amz-security-token")


async def test_path_of_the_endpoint_comes_first_and_is_signed() -> None:
    """An endpoint below a path is asked below that path."""
    clock = Clock()
    async with (
        Upstream(http(run_body())) as upstream,
        source(f"{upstream.url}/base/v1", now=clock.ours) as asked,
    ):
        await asked.ask(RUN_ID, RUN_EXPORT_DEFINITION)

    request = received(upstream.requests[0])
    assert f"/base/v1/run/{RUN_ID}" == request.path
    verify(request, now=clock.ours(), session_token=None)  # raises what is wrong
    assert clock.ours() == signed_at(upstream.requests[0])


# What is answered.


async def test_answer_is_the_run_and_when_it_was_read() -> None:
    """The run is translated, `observe_time` is our clock's, and AWS's id is there."""
    clock = Clock()
    reply = http(run_body(priority=7), x_amzn_requestid="aws-1")
    async with (
        Upstream(reply) as upstream,
        source(upstream.url, now=clock.ours) as asked,
    ):
        answer = await asked.ask()

    observed = Timestamp()
    observed.FromDatetime(clock.ours())
    assert (RUN_ID, RUN_STATUS_RUNNING, 7, observed, "aws-1") == (
        answer.run.id,
        answer.run.status,
        answer.run.priority,
        answer.run.observe_time,
        answer.request_id,
    )
    assert [None] == asked.reports


async def test_time_is_the_machine_s_unless_a_clock_is_handed_in() -> None:
    """Without a clock of its own the source tells the real time."""
    async with Upstream(http(run_body())) as upstream, source(upstream.url) as asked:
        before = datetime.now(UTC)
        answer = await asked.ask()

    assert before <= answer.run.observe_time.ToDatetime(UTC) <= datetime.now(UTC)


async def test_call_learns_where_it_was_asked_and_what_aws_said() -> None:
    """Region and AWS's facts are the call's; an error has AWS's facts of its own."""
    answers = (
        http(run_body(), x_amzn_requestid="aws-1"),
        refusing("ConflictException", status=409, x_amzn_requestid="aws-2"),
        http(b"<html>", status=502),
    )
    calls = [OneCall(inf) for _ in answers]
    async with Upstream(*answers) as upstream, source(upstream.url) as asked:
        await asked.ask(call=calls[0])
        errors = []
        for call in calls[1:]:
            with pytest.raises(GatewayError) as caught:
                await asked.ask(call=call)
            errors.append(caught.value.answer)

    answer = AwsAnswer("aws-1", 200)
    assert UpstreamInfo(REGION, 1, answer) == calls[0].upstream
    assert [UpstreamInfo(REGION, 1)] * 2 == [call.upstream for call in calls[1:]]
    assert [
        AwsAnswer("aws-2", 409, "ConflictException"),
        AwsAnswer("", 502),
    ] == errors


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>OK</html>", id="html"),
        pytest.param(run_body()[:-1], id="cut"),
        pytest.param(run_body() + b"}", id="more-behind-it"),
        pytest.param(b"\xef\xbb\xbf" + run_body(), id="bom"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(run_body(priority=float("nan")), id="nan"),
        pytest.param(run_body().replace(b"RUNNING", b"\xff"), id="bad-utf-8"),
        pytest.param(b"[" * LOOP_BYTES * 2, id="large"),
    ],
)
async def test_success_that_is_no_json_object_is_malformed(body: bytes) -> None:
    """A 200 that can't be read is never a run, and is worth one more attempt."""
    reply = http(body, x_amzn_requestid="aws-1")
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        error = await asked.refusal()

    assert (Reason.UPSTREAM_MALFORMED_RESPONSE, Again.ONCE) == (
        error.reason,
        error.again,
    )
    assert AwsAnswer("aws-1", 200) == error.answer
    assert [] == asked.reports


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(run_body("1000004"), id="another"),
        pytest.param(run_body(1000003), id="number"),
        pytest.param(run_body("01000003"), id="zero-before-it"),
        pytest.param(run_body(None), id="null"),
        pytest.param(b"{}", id="missing"),
        pytest.param(run_body("1000004", name="a" * LOOP_BYTES), id="large"),
    ],
)
async def test_answer_about_another_run_is_never_given(body: bytes) -> None:
    """A 200 whose id isn't the one asked for is worth one more attempt, no more."""
    async with Upstream(http(body)) as upstream, source(upstream.url) as asked:
        row = await asked.row()

    assert (Reason.UPSTREAM_IDENTITY_MISMATCH, Again.ONCE) == row


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(
            http(run_body(__type="com.amazon.omics#ThrottlingException")), id="type"
        ),
        pytest.param(
            http(run_body(__type="ThrottlingException:http://a")), id="address"
        ),
        pytest.param(
            http(run_body(), x_amzn_errortype="ThrottlingException"), id="header"
        ),
        pytest.param(
            http(run_body(__type="ns#Throttling", name="a" * LOOP_BYTES)), id="large"
        ),
    ],
)
async def test_error_in_a_success_is_an_error(reply: bytes) -> None:
    """A code in the header or in `__type` counts, whatever the status says."""
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        row = await asked.row()

    assert (Reason.UPSTREAM_THROTTLED, Again.YES) == row


async def test_code_of_a_success_is_a_member_like_any_other() -> None:
    """A bare `code` in a 200 is something new that AWS tells of a run."""
    reply = http(run_body(code="ThrottlingException"))
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        answer = await asked.ask()

    assert {"code": '"ThrottlingException"'} == dict(answer.run.unmodeled_json)


async def test_large_answer_is_read_like_a_small_one() -> None:
    """A body that is read in a thread is translated all the same."""
    name = "a" * LOOP_BYTES
    reply = http(run_body(name=name))
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        assert name == (await asked.ask()).run.name


@pytest.mark.parametrize("status", [200, 404])
async def test_large_body_does_not_hold_up_the_loop(status: int) -> None:
    """What it costs to read a megabyte, an error's too, isn't the loop's thread's."""
    body = run_body(parameters={str(number): number for number in range(60_000)})
    async with (
        Upstream(http(body, status=status)) as upstream,
        source(upstream.url) as asked,
    ):
        loop_seconds, all_seconds = time.thread_time(), time.process_time()
        if status == 200:
            assert 60_000 == len((await asked.ask()).run.parameters.struct_value.fields)
        else:
            assert Reason.UPSTREAM_UNRECOGNIZED is (await asked.refusal()).reason
        loop_seconds = time.thread_time() - loop_seconds
        all_seconds = time.process_time() - all_seconds

    assert loop_seconds < all_seconds / 2


# Clocks that differ.


@pytest.mark.guarantee("clock-skew")
@pytest.mark.parametrize("skew", [MINUTES_20, -MINUTES_20], ids=["ahead", "behind"])
async def test_clock_that_is_off_is_corrected_on_the_second_attempt(
    skew: timedelta,
) -> None:
    """AWS's refusal tells its time; what follows is signed by that."""
    clock = Clock(skew)
    async with (
        Sandbox(now=clock.theirs) as sandbox,
        source(sandbox.url, now=clock.ours) as asked,
    ):
        row = await asked.row()
        await asked.ask()
        await asked.ask()

    assert (Reason.GATEWAY_SIGNATURE_REJECTED, Again.FIXED) == row
    assert (3, [None, None]) == (sandbox.calls, asked.reports)


async def test_calls_at_once_all_learn_the_time_from_the_first_refusal() -> None:
    """Each of the calls that were signed by the wrong time is worth another attempt."""
    clock = Clock(MINUTES_20)
    async with (
        Sandbox(quota_per_second=0, now=clock.theirs) as sandbox,
        source(sandbox.url, now=clock.ours) as asked,
    ):
        rows = await asyncio.gather(*(asked.row() for _ in range(8)))
        await asyncio.gather(*(asked.ask() for _ in range(8)))

    assert {(Reason.GATEWAY_SIGNATURE_REJECTED, Again.FIXED)} == set(rows)


@pytest.mark.guarantee("clock-skew")
async def test_offset_is_dropped_when_the_clock_is_set_right() -> None:
    """A clock that jumps back to the truth costs one refusal, as when it left it."""
    clock = Clock(MINUTES_20)
    async with (
        Sandbox(now=clock.theirs) as sandbox,
        source(sandbox.url, now=clock.ours) as asked,
    ):
        await asked.refusal()
        await asked.ask()
        clock.time, clock.skew = clock.theirs(), timedelta(0)
        assert (Reason.GATEWAY_SIGNATURE_REJECTED, Again.FIXED) == await asked.row()
        await asked.ask()

    assert (
        clock.ours().strftime("%Y%m%dT%H%M%SZ")
        == (sandbox.requests[-1].headers["x-amz-date"])
    )


async def test_offset_follows_the_clock_as_it_comes_right() -> None:
    """Each answer tells the time anew, until the clocks agree and nothing is added."""
    clock = Clock(MINUTES_20)
    async with (
        Sandbox(now=clock.theirs) as sandbox,
        source(sandbox.url, now=clock.ours) as asked,
    ):
        await asked.refusal()
        for minutes in (20, 16, 12, 8, 4, 0.5, 0.5):
            clock.skew = timedelta(minutes=minutes)
            await asked.ask()

    ahead = [
        datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(
            tzinfo=UTC
        )
        - clock.ours()
        for request in sandbox.requests
    ]
    assert [0, 20, 20, 16, 12, 8, 4, 0] == [each.total_seconds() / 60 for each in ahead]


def http_date(**ahead: float) -> str:
    """Writes AWS's time, so much ahead of our clock, as HTTP does."""
    return format_datetime(Clock().ours() + timedelta(**ahead), usegmt=True)


@pytest.mark.parametrize(
    ("date", "again", "minutes"),
    [
        pytest.param(http_date(minutes=20), Again.FIXED, 20, id="ahead"),
        pytest.param(http_date(minutes=-20), Again.FIXED, -20, id="behind"),
        pytest.param(http_date(seconds=60), Again.FIXED, 1, id="a-minute"),
        pytest.param(http_date(seconds=59), Again.NO, 0, id="less-than-a-minute"),
        pytest.param(http_date(), Again.NO, 0, id="equal"),
        pytest.param(
            "Thu, 01 Jan 2026 15:20:00 +0300", Again.FIXED, 20, id="another-zone"
        ),
        pytest.param("Thu, 01 Jan 2026 12:20:00 -0000", Again.FIXED, 20, id="no-zone"),
        pytest.param(None, Again.NO, 0, id="missing"),
        pytest.param("", Again.NO, 0, id="empty"),
        pytest.param("yesterday", Again.NO, 0, id="no-date"),
        pytest.param("Thu, 32 Jan 2026 12:00:00 GMT", Again.NO, 0, id="32nd"),
        pytest.param("Thu, 01 Jan 9999 12:00:00 GMT", Again.NO, 0, id="far"),
        pytest.param(f"Thu, 01 Jan {9**40} 12:00:00 GMT", Again.NO, 0, id="farther"),
        pytest.param(f"Thu, 01 Jan 2026 12:00:00 +{9**40}", Again.NO, 0, id="odd-zone"),
    ],
)
async def test_rejected_signature_is_worth_another_attempt_only_if_clocks_differ(
    date: str | None, again: Again, minutes: float
) -> None:
    """By a minute or more, and by a date that can be one; else nothing is learned."""
    clock = Clock()
    headers = {} if date is None else {"date": date}
    reply = refusing("SignatureDoesNotMatch", **headers)
    async with (
        Upstream(reply, http(run_body())) as upstream,
        source(upstream.url, now=clock.ours) as asked,
    ):
        row = await asked.row()
        await asked.ask()

    assert (Reason.GATEWAY_SIGNATURE_REJECTED, again) == row
    ahead = signed_at(upstream.requests[1]) - clock.ours()
    assert minutes == ahead.total_seconds() / 60


async def test_offset_stays_where_an_answer_has_no_date() -> None:
    """What is known of AWS's time isn't forgotten for want of news."""
    clock = Clock()
    answers = (
        refusing("RequestExpired", date=http_date(minutes=20)),
        http(run_body()),
        http(run_body(), date="nonsense"),
        refusing("SignatureDoesNotMatch"),
        http(run_body()),
    )
    async with (
        Upstream(*answers) as upstream,
        source(upstream.url, now=clock.ours) as asked,
    ):
        assert (Reason.GATEWAY_CLOCK_SKEW, Again.FIXED) == await asked.row()
        await asked.ask()
        await asked.ask()
        assert (Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO) == await asked.row()
        await asked.ask()

    assert [0, 20, 20, 20, 20] == [
        (signed_at(head) - clock.ours()).total_seconds() / 60
        for head in upstream.requests
    ]


# Credentials that AWS refuses, or that never come.


async def test_expired_credentials_are_renewed_for_another_attempt() -> None:
    """The identity is told what was refused, and the next attempt signs with others."""
    keyring = Keyring(WRONG, MINE)
    reply = refusing("ExpiredTokenException")
    async with (
        Upstream(reply, http(run_body())) as upstream,
        source(upstream.url, keyring) as asked,
    ):
        row = await asked.row()
        await asked.ask()

    assert (Reason.GATEWAY_CREDENTIALS_EXPIRED, Again.FIXED) == row
    assert [WRONG] == keyring.refused
    for key, head in zip(("AKIDNOBODY", ACCESS_KEY_ID), upstream.requests, strict=True):
        assert f"Credential={key}/" in head
    assert [None] == asked.reports


async def test_others_that_are_refused_as_well_mend_nothing() -> None:
    """Only the first refusal since AWS accepted any is mended by a renewal."""
    keyring = Keyring(WRONG, MINE)
    reply = refusing("ExpiredTokenException")
    async with (
        Upstream(reply, reply, reply, http(run_body()), reply) as upstream,
        source(upstream.url, keyring) as asked,
    ):
        rows = [await asked.row()]
        keyring.follow(WRONG)
        rows.append(await asked.row())
        keyring.follow(MINE)
        rows.append(await asked.row())
        await asked.ask()
        keyring.follow(WRONG)
        rows.append(await asked.row())

    again = [Again.FIXED, Again.ONCE, Again.FIXED, Again.FIXED]
    assert [(Reason.GATEWAY_CREDENTIALS_EXPIRED, each) for each in again] == rows


async def test_invalid_credentials_that_are_replaced_are_no_matter() -> None:
    """The sandbox takes those that follow, and the gateway stays ready."""
    keyring = Keyring(WRONG, MINE)
    async with Sandbox() as sandbox, source(sandbox.url, keyring) as asked:
        row = await asked.row()
        await asked.ask()

    assert (Reason.GATEWAY_CREDENTIALS_INVALID, Again.FIXED) == row
    assert [None] == asked.reports


async def test_invalid_credentials_that_nothing_replaces_are_reported() -> None:
    """The gateway isn't ready while AWS refuses all that it has."""
    keyring = Keyring(WRONG, WRONG)
    async with Sandbox() as sandbox, source(sandbox.url, keyring) as asked:
        row = await asked.row()

    assert (Reason.GATEWAY_CREDENTIALS_INVALID, Again.ONCE) == row
    assert [Reason.GATEWAY_CREDENTIALS_INVALID] == asked.reports


async def test_invalid_credentials_that_invalid_ones_replace_are_reported() -> None:
    """A chain that always has others doesn't make the gateway ready."""
    keyring = Keyring(WRONG, MINE)
    reply = refusing("UnrecognizedClientException")
    async with Upstream(reply) as upstream, source(upstream.url, keyring) as asked:
        await asked.row()
        assert [] == asked.reports
        keyring.follow(WRONG)
        await asked.row()

    assert [Reason.GATEWAY_CREDENTIALS_INVALID] == asked.reports


@pytest.mark.parametrize(
    ("code", "reason", "reports"),
    [
        pytest.param(
            "ExpiredToken", Reason.GATEWAY_CREDENTIALS_EXPIRED, [], id="expired"
        ),
        pytest.param(
            "InvalidClientTokenId",
            Reason.GATEWAY_CREDENTIALS_INVALID,
            [Reason.GATEWAY_CREDENTIALS_INVALID],
            id="invalid",
        ),
    ],
)
async def test_renewal_that_fails_leaves_nothing_to_try_again_with(
    code: str,
    reason: Reason,
    reports: list[Reason],
) -> None:
    """Without a renewal the refusal stands, as AWS said it."""
    keyring = Keyring(MINE, UNAVAILABLE)
    async with (
        Upstream(refusing(code)) as upstream,
        source(upstream.url, keyring) as asked,
    ):
        row = await asked.row()

    assert ((reason, Again.NO), reports) == (row, asked.reports)


async def test_credentials_that_there_are_none_of_end_the_attempt() -> None:
    """What the identity raises is the call's own error."""
    async with (
        Upstream(http(run_body())) as upstream,
        source(upstream.url, Keyring(UNAVAILABLE)) as asked,
    ):
        call = OneCall(inf)
        with pytest.raises(GatewayError) as caught:
            await asked.ask(call=call)

    assert UNAVAILABLE is caught.value
    assert ([], NOT_ASKED) == (upstream.requests, call.upstream)


# What an attempt tells of the gateway's own identity.


@pytest.mark.parametrize(
    ("reply", "reports"),
    [
        pytest.param(http(run_body()), [None], id="success"),
        pytest.param(refusing("AccessDeniedException"), [None], id="denied"),
        pytest.param(refusing("ResourceNotFoundException"), [None], id="not-found"),
        pytest.param(refusing("ThrottlingException"), [None], id="throttled"),
        pytest.param(http(b"<html>", status=403), [], id="html-403"),
        pytest.param(http(b"", status=500), [], id="bare-500"),
        pytest.param(http(b"[]"), [], id="malformed"),
        pytest.param(http(status=302, location="/"), [], id="redirect"),
        pytest.param(refusing("ExpiredToken"), [], id="expired"),
        pytest.param(refusing("RequestExpired"), [], id="clock"),
        pytest.param(refusing("SignatureDoesNotMatch"), [], id="signature"),
        pytest.param(
            refusing("InvalidClientTokenId"),
            [Reason.GATEWAY_CREDENTIALS_INVALID],
            id="invalid",
        ),
        pytest.param(b"", [], id="cut"),
    ],
)
async def test_readiness_is_told_what_aws_thinks_of_the_identity(
    reply: bytes, reports: list[Reason | None]
) -> None:
    """AWS's word for or against it is reported, and nothing that says neither."""
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        try:
            await asked.ask()
        except GatewayError as error:
            if error.fix:
                await error.fix()
        assert reports == asked.reports


async def test_untrusted_certificate_is_reported() -> None:
    """A place that nobody vouches for is an operator's business."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with source(f"https://127.0.0.1:{port}") as asked:
            row = await asked.row()

    assert (Reason.UPSTREAM_TLS_UNTRUSTED, Again.NO) == row
    assert [Reason.UPSTREAM_TLS_UNTRUSTED] == asked.reports


# Getting there, and leaving.


async def test_failure_on_the_way_is_a_row_that_nothing_is_known_of() -> None:
    """Where no answer came there are no facts of one, and no report."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with source(f"http://127.0.0.1:{port}") as asked:
        error = await asked.refusal()

    assert (Reason.UPSTREAM_CONNECTION, Again.YES, None) == (
        error.reason,
        error.again,
        error.answer,
    )
    assert [] == asked.reports


async def test_silence_is_a_timeout() -> None:
    """An attempt ends by its time."""
    async with (
        Upstream([SILENCE]) as upstream,
        source(upstream.url, attempt_seconds=SOON_SECONDS) as asked,
    ):
        assert (Reason.UPSTREAM_TIMEOUT, Again.YES) == await asked.row()


async def test_attempts_are_counted_wherever_healthomics_is_tried() -> None:
    """A call's facts tell the Region and how often it was tried, failures too."""
    call = OneCall(inf)
    async with (
        Upstream(http(status=500), http(run_body())) as upstream,
        source(upstream.url) as asked,
    ):
        with pytest.raises(GatewayError):
            await asked.ask(call=call)
        first = call.upstream
        await asked.ask(call=call)

    assert UpstreamInfo(REGION, 1) == first
    assert 2 == call.upstream.attempts


async def test_cancelled_attempt_leaves_no_request() -> None:
    """Who goes closes the connection."""
    async with Upstream([SILENCE]) as upstream, source(upstream.url) as asked:
        attempt = asyncio.create_task(asked.ask())
        async with asyncio.timeout(5):
            await upstream.asked.wait()
            attempt.cancel()
            await upstream.hung_up.wait()
        await asyncio.gather(attempt, return_exceptions=True)

    assert attempt.cancelled()
