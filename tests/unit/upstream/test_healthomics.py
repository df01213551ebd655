"""Tests of one attempt over real HTTP: signing, reading, clock and credentials."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
    NO_ATTEMPT,
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
from healthomics_gateway.upstream.provider import CredentialsProvider, FixedCredentials
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.upstream.transport import Transport
from testkit.builders import Upstream, http

RUN_ID = "1000003"
MINE = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
WRONG = Credentials("AKIDNOBODY", "hush")
UNAVAILABLE = GatewayError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE)
SILENCE = 60.0
SOON_SECONDS = 0.1  # a timeout that a test waits for
MINUTES_20 = timedelta(minutes=20)


class Clock:
    """The gateway's clock and AWS's clock, which a test sets."""

    def __init__(self, skew: timedelta = timedelta(0)) -> None:
        self.time = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.skew = skew  # by which AWS's clock is ahead

    def gateway_time(self) -> datetime:
        """Return the time by the gateway's clock."""
        return self.time

    def aws_time(self) -> datetime:
        """Return the time by AWS's clock."""
        return self.time + self.skew


class Keyring:
    """A provider that has `current` until it is renewed to `following`.

    Either may be an exception, which is raised.
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
        """Set the credentials of the next renewal."""
        self._following = following

    async def credentials(self) -> Credentials:
        """Return the current credentials."""
        return _checked(self._current)

    async def renew(self, refused: Credentials) -> bool:
        """Replace the credentials by those of the next renewal."""
        self.refused.append(refused)
        self._current = _checked(self._following)
        return self._current != refused

    async def close(self) -> None:
        """Do nothing."""


def _checked(value: Credentials | Exception) -> Credentials:
    if isinstance(value, Exception):
        raise value
    return value


class Source:
    """A source and what it has reported."""

    def __init__(
        self,
        transport: Transport,
        endpoint: str,
        provider: CredentialsProvider,
        now: Callable[[], datetime],
    ) -> None:
        self.reports: list[Reason | None] = []
        self.reached: list[Reason | None] = []
        self._source = HealthOmics(
            transport,
            provider,
            region=REGION,
            endpoint=endpoint,
            report=self.reports.append,
            reached=self.reached.append,
            clock=clocks.Clock(now),
        )

    async def ask(
        self,
        run_id: str = RUN_ID,
        *export: RunExport.ValueType,
        call: Call | None = None,
    ) -> Answer:
        """Make one attempt, with a timeout of ten seconds."""
        async with asyncio.timeout(10):
            return await self._source.get_run(
                RunQuery(run_id, export), call=call or OneCall(inf)
            )

    async def refusal(self, run_id: str = RUN_ID) -> GatewayError:
        """Return the error that an attempt raises."""
        with pytest.raises(GatewayError) as caught:
            await self.ask(run_id)
        error: GatewayError = caught.value
        if error.fix:
            async with asyncio.timeout(10):
                error = await error.fix()
        return error

    async def row(self, run_id: str = RUN_ID) -> tuple[Reason, Again]:
        """Return the reason of an attempt's error, and whether to try again."""
        error = await self.refusal(run_id)
        return error.reason, error.again


@asynccontextmanager
async def source(
    endpoint: str,
    provider: CredentialsProvider | None = None,
    *,
    ca_file: Path | None = None,
    attempt_seconds: float = 30.0,
    now: Callable[[], datetime] = clocks.utc_now,
) -> AsyncIterator[Source]:
    """Create a source that sends requests to `endpoint`."""
    with trustme.CA().cert_pem.tempfile() as unused_ca_file:
        transport = Transport(
            ca_file=str(ca_file or unused_ca_file),
            max_connections=32,
            connect_timeout_seconds=5.0,
            attempt_timeout_seconds=attempt_seconds,
            max_body_bytes=2_000_000,
        )
    try:
        yield Source(transport, endpoint, provider or FixedCredentials(MINE), now)
    finally:
        await transport.close()


def run_body(run_id: Any = RUN_ID, **members: Any) -> bytes:
    """Return the body of a run."""
    members = {"id": run_id, "status": "RUNNING"} | members
    return json.dumps(members).encode()


def refusing(code: str, *, status: int = 403, **headers: str) -> bytes:
    """Return the response of an AWS error."""
    body = json.dumps({"message": "Said."})
    return http(body, status=status, x_amzn_errortype=code, **headers)


def received(head: str) -> ReceivedRequest:
    """Read the head of a request."""
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
    """Return the time that a request was signed with."""
    text = received(head).headers["x-amz-date"]
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


# Threads.


async def test_large_answer_is_parsed_while_other_threads_hang() -> None:
    """A large body is parsed, and a name resolved, while asyncio's threads are busy."""
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


# Requests.


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
    """The sandbox, which verifies signatures, accepts each kind of request."""
    provider = FixedCredentials(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, token))
    async with (
        Sandbox(session_token=token) as sandbox,
        source(sandbox.url, provider) as asked,
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
    """The endpoint's path precedes the request's path, and is signed."""
    clock = Clock()
    async with (
        Upstream(http(run_body())) as upstream,
        source(f"{upstream.url}/base/v1", now=clock.gateway_time) as asked,
    ):
        await asked.ask(RUN_ID, RUN_EXPORT_DEFINITION)

    request = received(upstream.requests[0])
    assert f"/base/v1/run/{RUN_ID}" == request.path
    verify(
        request, now=clock.gateway_time(), session_token=None
    )  # raises if it's wrong
    assert clock.gateway_time() == signed_at(upstream.requests[0])


# Answers.


async def test_answer_is_the_run_and_when_it_was_read() -> None:
    """The answer has the run, the clock's `observe_time` and AWS's request id."""
    clock = Clock()
    reply = http(run_body(priority=7), x_amzn_requestid="aws-1")
    async with (
        Upstream(reply) as upstream,
        source(upstream.url, now=clock.gateway_time) as asked,
    ):
        answer = await asked.ask()

    observed = Timestamp()
    observed.FromDatetime(clock.gateway_time())
    assert (RUN_ID, RUN_STATUS_RUNNING, 7, observed, "aws-1") == (
        answer.run.id,
        answer.run.status,
        answer.run.priority,
        answer.run.observe_time,
        answer.request_id,
    )
    assert [None] == asked.reports


async def test_time_is_the_machine_s_by_default() -> None:
    """Without a clock, `observe_time` is the machine's time."""
    async with Upstream(http(run_body())) as upstream, source(upstream.url) as asked:
        before = datetime.now(UTC)
        answer = await asked.ask()

    assert before <= answer.run.observe_time.ToDatetime(UTC) <= datetime.now(UTC)


async def test_call_has_the_region_and_aws_answer() -> None:
    """The call has the Region and AWS's answer, and an error has its own answer."""
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
        pytest.param(b"<html>OK</html>", id="html"),
        pytest.param(b"[" * LOOP_BYTES * 2, id="large"),
    ],
)
async def test_success_without_a_json_object_is_malformed(body: bytes) -> None:
    """A 200 without a JSON object is malformed, and tried once more."""
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
        pytest.param(run_body("1000004", name="a" * LOOP_BYTES), id="large"),
    ],
)
async def test_answer_about_another_run_is_an_error(body: bytes) -> None:
    """A 200 about another run is an error, and tried once more."""
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
    """A 200 with a code in the header or in `__type` is an error."""
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        row = await asked.row()

    assert (Reason.UPSTREAM_THROTTLED, Again.YES) == row


async def test_large_answer_is_read_like_a_small_one() -> None:
    """A large body, which is parsed in a thread, is translated."""
    name = "a" * LOOP_BYTES
    reply = http(run_body(name=name))
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        assert name == (await asked.ask()).run.name


@pytest.mark.parametrize("status", [200, 404])
async def test_large_body_does_not_hold_up_the_loop(status: int) -> None:
    """A body of a megabyte is parsed outside the event loop's thread."""
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


# Clock skew.


@pytest.mark.guarantee("clock-skew")
@pytest.mark.parametrize("skew", [MINUTES_20, -MINUTES_20], ids=["ahead", "behind"])
async def test_clock_that_is_off_is_corrected_on_the_second_attempt(
    skew: timedelta,
) -> None:
    """The next request is signed with the time of the response that refused one."""
    clock = Clock(skew)
    async with (
        Sandbox(now=clock.aws_time) as sandbox,
        source(sandbox.url, now=clock.gateway_time) as asked,
    ):
        row = await asked.row()
        await asked.ask()
        await asked.ask()

    assert (Reason.GATEWAY_SIGNATURE_REJECTED, Again.FIXED) == row
    assert (3, [None, None]) == (sandbox.calls, asked.reports)


async def test_concurrent_calls_share_the_time_of_the_first_refusal() -> None:
    """Each call that was signed with the wrong time is tried again."""
    clock = Clock(MINUTES_20)
    async with (
        Sandbox(quota_per_second=0, now=clock.aws_time) as sandbox,
        source(sandbox.url, now=clock.gateway_time) as asked,
    ):
        rows = await asyncio.gather(*(asked.row() for _ in range(8)))
        await asyncio.gather(*(asked.ask() for _ in range(8)))

    assert {(Reason.GATEWAY_SIGNATURE_REJECTED, Again.FIXED)} == set(rows)


@pytest.mark.guarantee("clock-skew")
async def test_offset_is_dropped_when_the_clock_is_set_right() -> None:
    """A clock that is corrected suddenly causes one refusal."""
    clock = Clock(MINUTES_20)
    async with (
        Sandbox(now=clock.aws_time) as sandbox,
        source(sandbox.url, now=clock.gateway_time) as asked,
    ):
        await asked.refusal()
        await asked.ask()
        clock.time, clock.skew = clock.aws_time(), timedelta(0)
        assert (Reason.GATEWAY_SIGNATURE_REJECTED, Again.FIXED) == await asked.row()
        await asked.ask()

    assert (
        clock.gateway_time().strftime("%Y%m%dT%H%M%SZ")
        == (sandbox.requests[-1].headers["x-amz-date"])
    )


async def test_offset_follows_the_clock_as_it_comes_right() -> None:
    """Each answer updates the offset, until the clocks agree."""
    clock = Clock(MINUTES_20)
    async with (
        Sandbox(now=clock.aws_time) as sandbox,
        source(sandbox.url, now=clock.gateway_time) as asked,
    ):
        await asked.refusal()
        for minutes in (20, 16, 12, 8, 4, 0.5, 0.5):
            clock.skew = timedelta(minutes=minutes)
            await asked.ask()

    ahead = [
        datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(
            tzinfo=UTC
        )
        - clock.gateway_time()
        for request in sandbox.requests
    ]
    assert [0, 20, 20, 16, 12, 8, 4, 0] == [each.total_seconds() / 60 for each in ahead]


def http_date(**ahead: float) -> str:
    """Return a Date header that is ahead of the gateway's clock."""
    return format_datetime(Clock().gateway_time() + timedelta(**ahead), usegmt=True)


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
    """A refused signature is tried again if a valid Date is a minute off or more."""
    clock = Clock()
    headers = {} if date is None else {"date": date}
    reply = refusing("SignatureDoesNotMatch", **headers)
    async with (
        Upstream(reply, http(run_body())) as upstream,
        source(upstream.url, now=clock.gateway_time) as asked,
    ):
        row = await asked.row()
        await asked.ask()

    assert (Reason.GATEWAY_SIGNATURE_REJECTED, again) == row
    ahead = signed_at(upstream.requests[1]) - clock.gateway_time()
    assert minutes == ahead.total_seconds() / 60


async def test_offset_is_unchanged_by_an_answer_without_a_date() -> None:
    """An answer without a Date leaves the offset unchanged."""
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
        source(upstream.url, now=clock.gateway_time) as asked,
    ):
        assert (Reason.GATEWAY_CLOCK_SKEW, Again.FIXED) == await asked.row()
        await asked.ask()
        await asked.ask()
        assert (Reason.GATEWAY_SIGNATURE_REJECTED, Again.NO) == await asked.row()
        await asked.ask()

    assert [0, 20, 20, 20, 20] == [
        (signed_at(head) - clock.gateway_time()).total_seconds() / 60
        for head in upstream.requests
    ]


# Refused and unavailable credentials.


async def test_expired_credentials_are_renewed_for_another_attempt() -> None:
    """Expired credentials are renewed, and the next attempt uses the new ones."""
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


async def test_renewed_credentials_that_are_refused_end_the_attempts() -> None:
    """If renewed credentials are refused too, there is no further attempt."""
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


async def test_invalid_credentials_that_are_replaced_are_not_reported() -> None:
    """The sandbox accepts the renewed credentials, and the gateway stays ready."""
    keyring = Keyring(WRONG, MINE)
    async with Sandbox() as sandbox, source(sandbox.url, keyring) as asked:
        row = await asked.row()
        await asked.ask()

    assert (Reason.GATEWAY_CREDENTIALS_INVALID, Again.FIXED) == row
    assert [None] == asked.reports


async def test_invalid_credentials_without_replacement_are_reported() -> None:
    """The gateway isn't ready while AWS refuses its only credentials."""
    keyring = Keyring(WRONG, WRONG)
    async with Sandbox() as sandbox, source(sandbox.url, keyring) as asked:
        row = await asked.row()

    assert (Reason.GATEWAY_CREDENTIALS_INVALID, Again.ONCE) == row
    assert [Reason.GATEWAY_CREDENTIALS_INVALID] == asked.reports


async def test_invalid_credentials_with_invalid_replacement_are_reported() -> None:
    """The gateway isn't ready while AWS refuses each renewed set of credentials."""
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
async def test_failed_renewal_ends_the_attempts(
    code: str,
    reason: Reason,
    reports: list[Reason],
) -> None:
    """If the renewal fails, the call ends with AWS's refusal."""
    keyring = Keyring(MINE, UNAVAILABLE)
    async with (
        Upstream(refusing(code)) as upstream,
        source(upstream.url, keyring) as asked,
    ):
        row = await asked.row()

    assert ((reason, Again.NO), reports) == (row, asked.reports)


async def test_missing_credentials_end_the_attempt() -> None:
    """An error of the credentials is the error of the attempt."""
    async with (
        Upstream(http(run_body())) as upstream,
        source(upstream.url, Keyring(UNAVAILABLE)) as asked,
    ):
        call = OneCall(inf)
        with pytest.raises(GatewayError) as caught:
            await asked.ask(call=call)

    assert UNAVAILABLE is caught.value
    assert ([], NO_ATTEMPT) == (upstream.requests, call.upstream)


# Reports to readiness.


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
async def test_report_follows_aws_answer_to_the_identity(
    reply: bytes, reports: list[Reason | None]
) -> None:
    """A report is made only if AWS's answer shows whether it accepts the identity."""
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        try:
            await asked.ask()
        except GatewayError as error:
            if error.fix:
                await error.fix()
        assert reports == asked.reports


async def test_untrusted_certificate_is_reported() -> None:
    """An untrusted certificate is reported."""
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


# Transport failures and cancellation.


async def test_transport_failure_has_no_answer_and_no_report() -> None:
    """An error without a response has no AWS answer and no report."""
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
    assert [Reason.UPSTREAM_CONNECTION] == asked.reached


@pytest.mark.guarantee("upstream-readiness")
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(http(run_body()), id="run"),
        pytest.param(http(status=500), id="500"),
        pytest.param(refusing("ThrottlingException", status=429), id="throttle"),
        pytest.param(b"it isn't HTTP\r\n\r\n", id="malformed"),
        pytest.param(http(run_body(), content_length="9" * 9), id="too-large"),
    ],
)
async def test_answer_of_any_kind_reaches_healthomics(reply: bytes) -> None:
    """An error, a throttle and even bytes that aren't HTTP are answers."""
    async with Upstream(reply) as upstream, source(upstream.url) as asked:
        with suppress(GatewayError):
            await asked.ask()

    assert [None] == asked.reached


async def test_silence_is_a_timeout() -> None:
    """An attempt without a response ends with its timeout."""
    async with (
        Upstream([SILENCE]) as upstream,
        source(upstream.url, attempt_seconds=SOON_SECONDS) as asked,
    ):
        assert (Reason.UPSTREAM_TIMEOUT, Again.YES) == await asked.row()


async def test_failed_attempts_are_counted() -> None:
    """The call's context has the Region and counts failed attempts too."""
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


async def test_cancelled_attempt_closes_its_connection() -> None:
    """A cancelled attempt closes its connection."""
    async with Upstream([SILENCE]) as upstream, source(upstream.url) as asked:
        attempt = asyncio.create_task(asked.ask())
        async with asyncio.timeout(5):
            await upstream.asked.wait()
            attempt.cancel()
            await upstream.hung_up.wait()
        await asyncio.gather(attempt, return_exceptions=True)

    assert attempt.cancelled()
