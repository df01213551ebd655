"""The chain of interceptors on a real server: ids, failures and log lines."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence
from itertools import chain, repeat
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import DebugInfo, RequestInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.auth.policy import ALL_METHODS, Access, Rule
from healthomics_gateway.context import (
    CallContext,
    Handler,
    Interceptor,
)
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Advice, Reason
from healthomics_gateway.interceptors.audit import audit
from healthomics_gateway.interceptors.status import CODES, status
from healthomics_gateway.runs.source import Answer, Call, RunQuery, UpstreamInfo
from testkit.builders import assert_well_made, get_run, refused
from testkit.serving import (
    AWS_REQUEST_ID,
    GET_RUN,
    Hanging,
    Scripted,
    answer,
    call_context,
    failure,
    serving,
)

RUN_ID = "1234567"
HEX = set("0123456789abcdef")


def decoded(body: bytes) -> int:
    """Decode a body of digits as a number."""
    return int(body)


def encoded(number: int) -> bytes:
    """Encode a number as a body."""
    return b"%d" % number


def call_with(
    channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str | bytes]]
) -> Any:
    """Make a GetRun call with metadata."""
    request = GetRunRequest(id=RUN_ID)
    return RunServiceStub(channel).GetRun(request, timeout=10, metadata=tuple(metadata))


# The call's id


@pytest.mark.parametrize(
    "request_id",
    [
        pytest.param("a", id="one-character"),
        pytest.param("A.b_c-9", id="every-kind"),
        pytest.param("x" * 64, id="64-characters"),
    ],
)
async def test_request_id_of_the_caller_is_kept(request_id: str) -> None:
    """The trailers return a valid id of the caller, after failures too."""
    metadata = [("x-request-id", request_id)]
    async with serving(Scripted(answer(), failure())) as channel:
        call = call_with(channel, metadata)
        await call
        trailers = dict(await call.trailing_metadata())
        error = await refused(call_with(channel, metadata))

    info = error.details["RequestInfo"]
    assert isinstance(info, RequestInfo)
    assert request_id == trailers["x-request-id"]
    assert request_id == error.trailers["x-request-id"] == info.request_id


@pytest.mark.guarantee("request-ids")
@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param((), id="none"),
        pytest.param((("x-request-id", ""),), id="empty"),
        pytest.param((("x-request-id", "x" * 65),), id="65-characters"),
        pytest.param((("x-request-id", "a b"),), id="space"),
        pytest.param((("x-request-id", "a/b"),), id="slash"),
        pytest.param((("x-request-id-bin", b"abc"),), id="binary"),
        pytest.param((("x-other-id", "abc"),), id="another-key"),
    ],
)
async def test_request_id_is_generated_without_a_valid_one(
    metadata: Sequence[tuple[str, str | bytes]],
) -> None:
    """Each call without a valid id gets a new one."""
    async with serving(Scripted(failure())) as channel:
        refusals = [await refused(call_with(channel, metadata)) for _ in range(3)]

    ids = {error.trailers["x-request-id"] for error in refusals}
    assert 3 == len(ids)
    assert all(32 == len(each) and set(each) <= HEX for each in ids)


async def test_request_id_is_the_first_valid_one() -> None:
    """The first valid id of several is used."""
    metadata = [("x-request-id", each) for each in ("no good", "good", "better")]
    async with serving(Scripted(failure())) as channel:
        error = await refused(call_with(channel, metadata))

    assert "good" == error.trailers["x-request-id"]


# Garbage of calls


async def fail_for_another(_query: RunQuery, _call: Call) -> Answer:
    """Raise an error in place of another one, as for a restricted caller."""
    try:
        raise failure(Reason.RUN_NOT_FOUND)
    except GatewayError:
        raise failure(Reason.CALLER_NOT_AUTHORIZED) from None


async def fail_as_missing(_query: RunQuery, _call: Call) -> Answer:
    """Raise an error that is hidden from a restricted caller."""
    raise failure(Reason.RUN_NOT_FOUND)


def restrict(proceed: Handler) -> Handler:
    """Restrict every caller to the runs of one group."""
    rule = Rule("lims", ALL_METHODS, run_groups=frozenset({"1"}))

    async def handle(incoming: Any, call: CallContext) -> bytes:
        call.access = Access("lims", rule)
        return await proceed(incoming, call)

    return handle


@pytest.mark.guarantee("short-pauses")
@pytest.mark.parametrize(
    ("refusing", "inner"),
    [
        pytest.param(failure(), (), id="failure"),
        pytest.param(fail_for_another, (), id="for-another"),
        pytest.param(fail_as_missing, (restrict,), id="hidden"),
    ],
)
async def test_refused_call_makes_no_reference_cycles(
    refusing: Any, inner: Sequence[Interceptor]
) -> None:
    """A refused call causes no more cyclic garbage than an answered one."""
    calls = 20
    left = {}
    answers = [answer(run_group_id="1")] * (calls + 1)
    source = Scripted(*answers, refusing)
    async with serving(source, inner=inner, refusal_seconds=0.005) as channel:
        stub = RunServiceStub(channel)

        async def ask() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await get_run(stub, RUN_ID)

        gc.disable()
        try:
            for name in ("answered", "refused"):
                await ask()
                gc.collect()
                for _ in range(calls):
                    await ask()
                left[name] = gc.collect()
        finally:
            gc.enable()

    assert left["refused"] < left["answered"] + calls


# One status for each failure


def test_every_code_of_google_rpc_has_its_grpc_code() -> None:
    """Codes of google.rpc and gRPC match by number and by name."""
    assert dict(code_pb2.Code.items()) == {
        code.name: number for number, code in CODES.items()
    }


@pytest.mark.parametrize(
    "reason", [pytest.param(each, id=each.name) for each in Reason]
)
async def test_failure_is_sent_as_its_row_says(reason: Reason) -> None:
    """The client receives each reason with its code, message and delay."""
    error = failure(reason, retry_delay_seconds=1.5)
    async with serving(Scripted(error)) as channel:
        error = await refused(get_run(RunServiceStub(channel), RUN_ID))

    delay = error.details.get("RetryInfo", RetryInfo())
    assert isinstance(delay, RetryInfo)
    assert (CODES[reason.value.code], reason.value.message) == (
        error.code,
        error.message,
    )
    assert (reason.name, {"runId": RUN_ID}) == (error.reason, error.metadata)
    assert_well_made(error)
    is_final = reason.value.advice is Advice.STOP
    assert (0 if is_final else 1500) == delay.retry_delay.ToMilliseconds()


@pytest.mark.guarantee("no-secrets")
@pytest.mark.parametrize("is_debugging", [True, False])
async def test_aws_message_is_sent_only_with_debug(*, is_debugging: bool) -> None:
    """AWS's message is in DebugInfo with `debug`, and absent without it."""
    error = failure(Reason.UPSTREAM_ACCESS_DENIED, debug="User: arn:aws:iam::1:role/x")
    async with serving(Scripted(error), debug=is_debugging) as channel:
        error = await refused(get_run(RunServiceStub(channel), RUN_ID))

    expected = {"DebugInfo"} if is_debugging else set()
    assert expected == error.details.keys() - {"ErrorInfo", "RequestInfo"}
    for each in error.details.values():
        if isinstance(each, DebugInfo):
            assert "User: arn:aws:iam::1:role/x" == each.detail
    assert is_debugging == ("arn:aws" in str(error.trailers))


@pytest.mark.guarantee("request-ids")
@pytest.mark.parametrize(
    ("aws_request_id", "expected"),
    [
        pytest.param(AWS_REQUEST_ID, AWS_REQUEST_ID, id="sent"),
        pytest.param("", None, id="not-sent"),
    ],
)
async def test_failure_has_the_aws_request_id(
    aws_request_id: str, expected: str | None
) -> None:
    """The trailers have AWS's request id if AWS sent one."""
    error = failure(answer=AwsAnswer(aws_request_id))
    async with serving(Scripted(error)) as channel:
        error = await refused(get_run(RunServiceStub(channel), RUN_ID))

    assert expected == error.trailers.get("x-amzn-requestid")


class Sent:
    """A call's context that records the statuses that are sent."""

    def __init__(self) -> None:
        """Start with no status."""
        self.codes: list[grpc.StatusCode] = []

    async def abort(
        self, code: grpc.StatusCode, _details: str, *, trailing_metadata: object
    ) -> None:
        """Record a status with trailers."""
        assert trailing_metadata
        self.codes.append(code)


async def test_failure_is_logged_before_its_status_is_sent() -> None:
    """So no answered call lacks its line in the log if the process ends."""
    sent = Sent()
    call = call_context(rpc=sent)

    async def fail(_incoming: object, _call: CallContext) -> bytes:
        raise failure()

    with capture_logs() as events:
        assert b"" == await audit(status(debug=False)(fail))(b"", call)

    assert ["UNAVAILABLE"] == [each["code"] for each in events]
    assert [] == sent.codes
    assert call.abort
    await call.abort()
    assert [grpc.StatusCode.UNAVAILABLE] == sent.codes


# The interceptors of each service


def named(name: str, passed: list[str]) -> Interceptor:
    """Return an interceptor that records when it is composed, entered and left."""

    def intercept(proceed: Handler) -> Handler:
        passed.append(f"{name} composed")

        async def handle(incoming: Any, exchange: CallContext) -> bytes:
            passed.append(f"{name} entered by {exchange.method}")
            try:
                return await proceed(incoming, exchange)
            finally:
                passed.append(f"{name} left")

        return handle

    return intercept


async def test_interceptors_are_composed_once_in_order() -> None:
    """All calls of a method pass the same interceptors, outermost first."""
    passed: list[str] = []
    inner = [named("a", passed), named("b", passed)]
    async with serving(Scripted(answer()), inner=inner) as channel:
        await get_run(RunServiceStub(channel), RUN_ID)
        await get_run(RunServiceStub(channel), RUN_ID)

    a_call = [
        f"a entered by {GET_RUN}",
        f"b entered by {GET_RUN}",
        "b left",
        "a left",
    ]
    assert ["b composed", "a composed", *a_call, *a_call] == passed


async def test_health_check_passes_no_interceptor_of_run_service() -> None:
    """A health check passes none of the interceptors of RunService."""
    passed: list[str] = []
    async with serving(Scripted(answer()), inner=[named("a", passed)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        checked = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)

    assert health_pb2.HealthCheckResponse.SERVING == checked.status
    assert [] == passed


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff", id="no-tag"),
        pytest.param(b"\x0a\x7f1", id="cut"),
        pytest.param(b"\x0a\x02\xff\xfe", id="bad-utf-8"),
        pytest.param(b"\x00\x00", id="field-0"),
    ],
)
async def test_request_that_does_not_decode_is_malformed(body: bytes) -> None:
    """Bytes that aren't a GetRunRequest are MALFORMED_REQUEST, without a request."""
    source = Scripted(answer())
    async with serving(source) as channel:
        error = await refused(channel.unary_unary(GET_RUN)(body, timeout=10))

    assert grpc.StatusCode.INVALID_ARGUMENT is error.code
    assert ("MALFORMED_REQUEST", {}) == (error.reason, error.metadata)
    assert "-1" == error.trailers["grpc-retry-pushback-ms"]
    assert [] == source.asked


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(f"{GET_RUN}s", id="of-the-service"),
        pytest.param("/healthomics.v1.Nothing/GetRun", id="of-no-service"),
        pytest.param("/healthomics.v1.RunService/", id="empty"),
        pytest.param("/x", id="no-service-at-all"),
    ],
)
async def test_unknown_method_is_refused(method: str) -> None:
    """A method that isn't served is METHOD_UNKNOWN, with a request id."""
    async with serving(Scripted(answer())) as channel:
        error = await refused(channel.unary_unary(method)(b"", timeout=10))

    assert grpc.StatusCode.UNIMPLEMENTED is error.code
    assert ("METHOD_UNKNOWN", {}) == (error.reason, error.metadata)
    assert 32 == len(error.trailers["x-request-id"])


async def test_unknown_method_is_refused_without_a_message() -> None:
    """A call of an unknown method ends even if the client sends no message."""
    async with serving(Scripted(answer())) as channel:
        call: Any = channel.stream_unary("/healthomics.v1.Nothing/Hold")(timeout=10)
        code = await call.code()

    assert grpc.StatusCode.UNIMPLEMENTED is code


async def test_status_of_a_standard_service_is_kept() -> None:
    """A status that a service sets itself, such as NOT_FOUND, isn't changed."""
    async with serving(Scripted(answer())) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="nothing")
        with capture_logs() as events:
            error = await refused(stub.Check(request, timeout=10))

    assert grpc.StatusCode.NOT_FOUND is error.code
    assert {} == error.details
    assert [] == events


async def test_stream_of_a_standard_service_passes() -> None:
    """`Health.Watch` streams through the chain until its client cancels."""
    async with serving(Scripted(answer())) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=10
        )
        first = await watch.read()
        watch.cancel()

    assert health_pb2.HealthCheckResponse.SERVING == first.status


async def double(numbers: AsyncIterator[int], _context: object) -> AsyncIterator[int]:
    """Return the double of each number."""
    async for number in numbers:
        yield 2 * number


async def count(number: int, _context: object) -> AsyncIterator[int]:
    """Count up to a number, then fail."""
    for each in range(number):
        yield each
    raise ValueError("canary")


async def lie(_number: int, _context: object) -> None:
    """Return no number."""


NUMBERS = grpc.method_handlers_generic_handler(
    "tests.Numbers",  # a service beside the gateway's
    {
        "Double": grpc.stream_stream_rpc_method_handler(double, decoded, encoded),
        "Count": grpc.unary_stream_rpc_method_handler(count, decoded, encoded),
        "Lie": grpc.unary_unary_rpc_method_handler(lie, decoded, encoded),
    },
)


async def test_streams_of_both_sides_pass() -> None:
    """Messages of a client's stream are decoded, and those of the answer encoded."""
    async with serving(Scripted(answer()), handlers=[NUMBERS]) as channel:
        method = channel.stream_stream("/tests.Numbers/Double")
        answers = [body async for body in method(iter([b"1", b"21"]), timeout=10)]

    assert [b"2", b"42"] == answers


async def test_streamed_request_that_does_not_decode_is_malformed() -> None:
    """Invalid bytes in a stream end it with MALFORMED_REQUEST."""
    async with serving(Scripted(answer()), handlers=[NUMBERS]) as channel:
        method = channel.stream_stream("/tests.Numbers/Double")
        error = await refused(method(iter([b"x"]), timeout=10).read())

    assert "MALFORMED_REQUEST" == error.reason


async def test_request_of_a_stream_that_does_not_decode_is_malformed() -> None:
    """An invalid request of a server stream is MALFORMED_REQUEST."""
    async with serving(Scripted(answer()), handlers=[NUMBERS]) as channel:
        method = channel.unary_stream("/tests.Numbers/Count")
        error = await refused(method(b"x", timeout=10).read())

    assert "MALFORMED_REQUEST" == error.reason


async def test_bug_in_a_stream_follows_its_messages() -> None:
    """A stream that fails ends INTERNAL after its messages, without the bug's text."""
    async with serving(Scripted(answer()), handlers=[NUMBERS]) as channel:
        call = channel.unary_stream("/tests.Numbers/Count")(b"2", timeout=10)
        with capture_logs():
            answers = [await call.read(), await call.read()]
            error = await refused(call.read())

    assert [b"0", b"1"] == answers
    assert (grpc.StatusCode.INTERNAL, "GATEWAY_INTERNAL") == (error.code, error.reason)
    assert "canary" not in str(error.trailers)


async def test_answer_that_does_not_encode_is_a_bug() -> None:
    """An answer that can't be encoded is INTERNAL, without the encoder's text."""
    async with serving(Scripted(answer()), handlers=[NUMBERS]) as channel:
        with capture_logs():
            method = channel.unary_unary("/tests.Numbers/Lie")
            error = await refused(method(b"1", timeout=10))

    assert (grpc.StatusCode.INTERNAL, "GATEWAY_INTERNAL") == (error.code, error.reason)
    assert "NoneType" not in str(error.trailers)


# One log line for each call


@pytest.mark.guarantee("audit-log")
async def test_answered_call_is_logged_once() -> None:
    """A successful call is one line with method, code, id, peer, time and metadata."""

    async def respond(_query: RunQuery, call: Call) -> Answer:
        call.upstream = UpstreamInfo("us-east-1", 1, AwsAnswer(AWS_REQUEST_ID))
        return answer()

    with capture_logs() as events:
        async with serving(Scripted(respond)) as channel:
            await call_with(channel, [("x-request-id", "mine")])

    (event,) = events
    assert event.pop("peer").startswith("ipv4:127.0.0.1:")
    assert 0 < event.pop("duration_ms") < 10_000
    assert {
        "event": "call",
        "log_level": "info",
        "method": GET_RUN,
        "code": "OK",
        "reason": "",
        "request_id": "mine",
        "identity": "anonymous",
        "from_cache": False,
        "runId": RUN_ID,
        "region": "us-east-1",
        "attempts": "1",
        "awsRequestId": AWS_REQUEST_ID,
    } == event


@pytest.mark.guarantee("audit-log")
async def test_refused_call_is_logged_with_its_reason() -> None:
    """A failed call is one line with the reason and metadata that the client got."""
    error = failure(Reason.RUN_NOT_FOUND, answer=AwsAnswer(AWS_REQUEST_ID))
    with capture_logs() as events:
        async with serving(Scripted(error)) as channel:
            error = await refused(get_run(RunServiceStub(channel), RUN_ID))

    (event,) = events
    assert ("info", "NOT_FOUND", "RUN_NOT_FOUND") == (
        event["log_level"],
        event["code"],
        event["reason"],
    )
    assert error.trailers["x-request-id"] == event["request_id"]
    assert error.metadata.items() <= event.items()


async def test_internal_failure_is_logged_as_an_error() -> None:
    """INTERNAL is logged at `error`, for a bug and for an error of AWS."""
    with capture_logs() as events:
        async with serving(
            Scripted(failure(Reason.GATEWAY_CREDENTIALS_INVALID))
        ) as channel:
            await refused(get_run(RunServiceStub(channel), RUN_ID))

    assert [("call", "error", "GATEWAY_CREDENTIALS_INVALID")] == [
        (event["event"], event["log_level"], event["reason"]) for event in events
    ]


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(ValueError("canary of a bug"), id="value"),
        pytest.param(NotImplementedError("canary of a bug"), id="not-implemented"),
    ],
)
async def test_bug_is_logged_with_its_exception(bug: Exception) -> None:
    """The log has the exception of a bug, under the request id that the client got."""
    with capture_logs() as events:
        async with serving(Scripted(bug)) as channel:
            error = await refused(get_run(RunServiceStub(channel), RUN_ID))

    trace, line = events
    assert ("bug", "error", bug) == (
        trace["event"],
        trace["log_level"],
        trace["exc_info"],
    )
    assert ("call", "INTERNAL", "GATEWAY_INTERNAL") == (
        line["event"],
        line["code"],
        line["reason"],
    )
    assert {error.trailers["x-request-id"]} == {
        trace["request_id"],
        line["request_id"],
    }


async def test_cancelled_call_is_logged_as_cancelled() -> None:
    """A call that its client cancels is one line with its identity."""
    hanging = Hanging()
    with capture_logs() as events:
        async with serving(Scripted(hanging)) as channel:
            call = RunServiceStub(channel).GetRun(GetRunRequest(id=RUN_ID), timeout=30)
            await hanging.is_asked.wait()
            call.cancel()
            await asyncio.wait_for(hanging.is_left.wait(), 5)

    (event,) = events
    assert ("CANCELLED", "", RUN_ID) == (
        event["code"],
        event["reason"],
        event["runId"],
    )
    assert event["peer"].startswith("ipv4:127.0.0.1:")


class Leaving:
    """The context of a call that is cancelled with some seconds remaining."""

    def __init__(self, left: float | None) -> None:
        """Set the remaining seconds, None for a call without a deadline."""
        self._left = left

    def peer(self) -> str:
        """Return the caller's address."""
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        """Return the remaining seconds."""
        return self._left


LATE = ("DEADLINE_EXCEEDED", "CALLER_DEADLINE")
LEFT = ("CANCELLED", "")


@pytest.mark.parametrize(
    ("given", "left", "expected"),
    [
        pytest.param(0.5, 0.0, LATE, id="late"),
        pytest.param(0.5, 0.019, LATE, id="late-by-the-client-s-clock"),
        pytest.param(0.5, 0.1, LEFT, id="in-time"),
        pytest.param(100.0, 0.99, LATE, id="late-by-a-rounded-deadline"),
        pytest.param(100.0, 2.0, LEFT, id="in-time-of-a-long-call"),
        pytest.param(None, None, LEFT, id="no-deadline"),
    ],
)
async def test_client_that_leaves_at_its_deadline_is_logged_as_late(
    given: float | None, left: float | None, expected: tuple[str, str]
) -> None:
    """A call that ends at its client's deadline isn't logged as cancelled."""

    async def proceed(_incoming: Any, _context: CallContext) -> bytes:
        raise asyncio.CancelledError

    call = call_context(rpc=Leaving(left))
    ended = (given or 0) - (left or 0)
    times = chain((0.0,), repeat(ended))
    with capture_logs() as events, pytest.raises(asyncio.CancelledError):
        await audit(proceed, clock=lambda: next(times))(b"", call)

    assert [expected] == [(event["code"], event["reason"]) for event in events]


async def test_only_a_call_that_failed_is_passed_on() -> None:
    """`failed` gets a call with its reason when it has failed, and no other."""

    async def proceed(_incoming: Any, call: CallContext) -> bytes:
        if call is bad:
            call.code, call.reason = grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"
            call.error = failure(Reason.RUN_NOT_FOUND)
        return b""

    failed: list[tuple[CallContext, str]] = []
    good, bad = call_context(rpc=Answering()), call_context()
    handle = audit(proceed, failed=lambda call: failed.append((call, call.reason)))
    for call in (good, bad):
        await handle(b"", call)

    assert [(bad, "RUN_NOT_FOUND")] == failed


class Answering:
    """The context of a call that is answered."""

    def set_trailing_metadata(self, _trailers: object) -> None:
        """Do nothing."""


async def test_unknown_method_is_logged_with_its_name_cut() -> None:
    """The name of an unknown method is logged up to 100 characters."""
    method = "/" + "x" * 1000
    with capture_logs() as events:
        async with serving(Scripted(answer())) as channel:
            await refused(channel.unary_unary(method)(b"", timeout=10))

    assert [(method[:100], "UNIMPLEMENTED", "METHOD_UNKNOWN")] == [
        (event["method"], event["code"], event["reason"]) for event in events
    ]
