"""The spans of calls, fetches and watches, as a collector receives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from structlog.testing import capture_logs

from healthomics.v1.run_pb2 import RunExport
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from testkit.builders import calling, get_run, http, refused
from testkit.callers import GROUP, rule, until
from testkit.collector import Span, Traced, traced
from testkit.lying_upstream import HANG, LyingUpstream, said, true_run

RUN = "7000001"
GET_RUN = "healthomics.v1.RunService/GetRun"
WATCH_RUN = "healthomics.v1.RunService/WatchRun"
ATTEMPT = "GET /run/{id}"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
SOON = {"GATEWAY_WATCH__INTERVAL": "50ms", "GATEWAY_WATCH__MIN_INTERVAL": "10ms"}
STALE = {"max_staleness": Duration(seconds=30)}


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[tuple[Any, LyingUpstream, Traced]]:
    """Yield a stub to a traced gateway, its upstream and what it exports."""
    async with (
        LyingUpstream() as upstream,
        traced(upstream.url, **options) as served,
        calling(served.served) as stub,
    ):
        yield stub, upstream, served


def call_with(stub: Any, *metadata: tuple[str, str], run_id: str = RUN) -> Any:
    """Begin a GetRun with metadata."""
    return stub.GetRun(GetRunRequest(id=run_id), timeout=10, metadata=metadata)


def is_within(inner: Span, outer: Span) -> bool:
    """Return whether a span began and ended within another one of its trace."""
    return (
        inner.trace_id == outer.trace_id
        and outer.start <= inner.start
        and inner.end <= outer.end
    )


async def test_call_has_spans_of_its_queue_attempt_and_translation() -> None:
    """The spans of a call are one trace, with the attributes of the conventions."""
    async with rig() as (stub, upstream, served):
        answered = http(true_run(RUN), x_amzn_requestid="a-1")
        upstream.lie(RUN, answered)
        await get_run(stub, RUN, export=[RunExport.RUN_EXPORT_DEFINITION])
        spans = await served.spans()

    call, fetch = spans.only(GET_RUN), spans.only("fetch")
    parts = [spans.only(name) for name in ("queue", ATTEMPT, "translate")]
    assert ("server", "", False) == (call.kind, call.parent, call.is_error)
    assert call.attributes.pop("healthomics_gateway.request_id")
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": GET_RUN,
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "healthomics_gateway.run_id": RUN,
        "healthomics_gateway.from_cache": False,
        "healthomics_gateway.attempts": 1,
    } == call.attributes
    assert (call.id, {call.id}) == (fetch.parent, fetch.links)
    assert {fetch.id} == call.links
    assert [fetch.id] * 3 == [each.parent for each in parts]
    assert all(is_within(each, fetch) for each in parts)
    assert is_within(fetch, call)
    queue, attempt, translation = parts
    assert {"healthomics_gateway.queue.kind": "call"} == queue.attributes
    assert ("client", False) == (attempt.kind, attempt.is_error)
    assert {
        "http.request.method": "GET",
        "url.full": f"{upstream.url}/run/{RUN}?export=DEFINITION",
        "url.template": "/run/{id}",
        "server.address": "127.0.0.1",
        "server.port": upstream.port,
        "cloud.region": "us-east-1",
        "http.response.status_code": 200,
        "aws.request_id": "a-1",
    } == attempt.attributes
    assert attempt.end == translation.start
    assert [False] == [
        "traceparent" in each.headers for each in upstream.requests
    ]  # AWS doesn't use it


async def test_calls_that_share_a_fetch_are_linked_to_it() -> None:
    """The fetch is a span of the first call; each call and the fetch are linked."""
    async with rig() as (stub, upstream, served):
        held = asyncio.Event()
        upstream.lie(RUN, [held, http(true_run(RUN))])
        first = asyncio.create_task(get_run(stub, RUN))
        await until(lambda: upstream.requests)
        others = [asyncio.create_task(get_run(stub, RUN)) for _ in range(2)]
        await until(lambda: served.served.in_flight == 3)
        held.set()
        await asyncio.gather(first, *others)
        spans = await served.spans()

    one, two, three = spans.named(GET_RUN)
    own, shared = spans.named("fetch")
    assert (one.id, {own.id}, {one.id}) == (own.parent, one.links, own.links)
    assert {two.id, three.id} == shared.links
    assert shared.parent in {two.id, three.id}
    assert [{shared.id}] * 2 == [two.links, three.links]
    assert 3 == len({each.trace_id for each in (one, two, three)})


async def test_cached_answer_is_linked_to_its_fetch() -> None:
    """A call that the cache answers is linked to the fetch of the answer."""
    async with rig() as (stub, _, served):
        for _ in range(2):
            await get_run(stub, RUN, **STALE)
        spans = await served.spans()

    missed, hit = spans.named(GET_RUN)
    fetch = spans.only("fetch")
    assert [{fetch.id}] * 2 == [missed.links, hit.links]
    cached = "healthomics_gateway.from_cache"
    assert [False, True] == [each.attributes[cached] for each in (missed, hit)]


async def test_parent_is_taken_from_the_metadata() -> None:
    """A call continues its caller's trace, and its log line has both ids."""
    with capture_logs() as log:
        async with rig() as (stub, _, served):
            metadata = ("traceparent", SAMPLED), ("tracestate", "vendor=1")
            await call_with(stub, *metadata)
            spans = await served.spans()

    call = spans.only(GET_RUN)
    assert (TRACE, PARENT) == (call.trace_id, call.parent)
    (line,) = [each for each in log if each["event"] == "call"]
    assert (TRACE, call.id) == (line["trace_id"], line["span_id"])
    assert line["request_id"] == call.attributes["healthomics_gateway.request_id"]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param([("traceparent", "no")], id="text"),
        pytest.param([("traceparent", f"00-{'0' * 32}-{PARENT}-01")], id="zero"),
        pytest.param([("traceparent", f"ff-{TRACE}-{PARENT}-01")], id="version"),
        pytest.param([("tracestate", "vendor=1")], id="state-alone"),
    ],
)
async def test_invalid_parent_is_ignored(metadata: list[tuple[str, str]]) -> None:
    """The call begins a trace of its own."""
    async with rig() as (stub, _, served):
        await call_with(stub, *metadata)
        spans = await served.spans()

    call = spans.only(GET_RUN)
    assert "" == call.parent
    assert TRACE != call.trace_id


async def test_error_of_a_caller_has_its_reason() -> None:
    """NOT_FOUND is no fault of the server, but the attempt failed."""
    async with rig() as (stub, upstream, served):
        upstream.lie(RUN, said(404, "ResourceNotFoundException"))
        await refused(get_run(stub, RUN))
        spans = await served.spans()

    call, fetch, attempt = (spans.only(x) for x in (GET_RUN, "fetch", ATTEMPT))
    assert ["RUN_NOT_FOUND"] * 3 == [each.reason for each in (call, fetch, attempt)]
    assert [False, False, True] == [x.is_error for x in (call, fetch, attempt)]
    assert "NOT_FOUND" == call.attributes["rpc.response.status_code"]
    assert 404 == attempt.attributes["http.response.status_code"]
    code = "healthomics_gateway.aws_error_code"
    assert "ResourceNotFoundException" == attempt.attributes[code]
    assert [] == spans.named("translate")


async def test_each_attempt_has_a_span() -> None:
    """A retry has a queue and an attempt of its own, with its number."""
    async with rig() as (stub, upstream, served):
        upstream.lie(
            RUN, said(500, "InternalServerException"), http(true_run(RUN, id=RUN))
        )
        await get_run(stub, RUN)
        spans = await served.spans()

    first, second = spans.named(ATTEMPT)
    assert ["UPSTREAM_INTERNAL", ""] == [first.reason, second.reason]
    assert 1 == second.attributes["http.request.resend_count"]
    assert 2 == len(spans.named("queue"))
    assert 2 == spans.only(GET_RUN).attributes["healthomics_gateway.attempts"]


async def test_malformed_answer_is_an_error_of_the_translation() -> None:
    """The attempt has succeeded; the fetch and the call have the reason."""
    async with rig(GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as (stub, upstream, served):
        upstream.lie(RUN, http("[]"))
        await refused(get_run(stub, RUN))
        spans = await served.spans()

    names = (GET_RUN, "fetch", "translate", ATTEMPT)
    malformed = "UPSTREAM_MALFORMED_RESPONSE"
    expected = [malformed, malformed, malformed, ""]
    assert expected == [spans.only(name).reason for name in names]
    assert not spans.only(ATTEMPT).is_error


async def test_lost_connection_is_an_error_of_the_attempt() -> None:
    """An attempt without an answer has a reason, and no status."""
    options = {"GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}
    async with rig(**options) as (stub, upstream, served):
        upstream.lie(RUN, ["reset"])
        await refused(get_run(stub, RUN))
        spans = await served.spans()

    attempt = spans.only(ATTEMPT)
    assert ("UPSTREAM_CONNECTION", True) == (attempt.reason, attempt.is_error)
    assert "http.response.status_code" not in attempt.attributes
    assert spans.only(GET_RUN).is_error  # UNAVAILABLE


async def test_call_that_leaves_ends_its_spans() -> None:
    """A cancelled call cancels its fetch, whose spans end with that reason."""
    async with rig() as (stub, upstream, served):
        upstream.lie(RUN, [HANG])
        call = call_with(stub)
        await until(lambda: upstream.requests)
        call.cancel()
        await until(lambda: not upstream.busy)
        spans = await served.spans()

    names = (GET_RUN, "fetch", ATTEMPT)
    assert ["CANCELLED"] * 3 == [spans.only(name).reason for name in names]


async def test_call_refused_in_the_queue_has_its_reason() -> None:
    """A call whose turn won't come in time shows how long it waited, and why."""
    quota = {"GATEWAY_QUOTA__TPS": "1", "GATEWAY_QUOTA__BURST": "1"}
    async with rig(**quota) as (stub, _, served):
        await get_run(stub, RUN)
        await refused(get_run(stub, RUN, seconds=0.2))
        spans = await served.spans()

    _, refusal = spans.named(GET_RUN)
    assert ("UPSTREAM_THROTTLED", False) == (refusal.reason, refusal.is_error)


async def test_call_that_leaves_the_queue_ends_its_spans() -> None:
    """The wait of a call that nobody waits for any more is recorded."""
    quota = {"GATEWAY_QUOTA__TPS": "1", "GATEWAY_QUOTA__BURST": "1"}
    async with rig(**quota) as (stub, _, served):
        await get_run(stub, RUN)
        call = call_with(stub)
        await until(lambda: served.served.in_flight == 1)
        call.cancel()
        await until(lambda: served.served.in_flight == 0)
        spans = await served.spans()

    for name in (GET_RUN, "fetch", "queue"):
        assert "CANCELLED" == spans.named(name)[1].reason


async def test_listener_is_named_by_its_path(tmp_path: Path) -> None:
    """The server's address of a call over a Unix socket is the socket's path."""
    path = str(tmp_path / "socket")
    async with rig(listen=f"unix:{path}") as (stub, _, served):
        await get_run(stub, RUN)
        spans = await served.spans()

    assert path == spans.only(GET_RUN).attributes["server.address"]


async def test_watch_of_a_restricted_caller_has_its_first_fetch() -> None:
    """The fetch that such a watch begins with is part of its trace: it is no poll."""
    rules = rule("anonymous", run_groups=[GROUP])
    async with rig(toml=rules, **SOON) as (stub, upstream, served):
        upstream.lie(RUN, http(true_run(RUN, status="COMPLETED", runGroupId=GROUP)))
        watch = stub.WatchRun(WatchRunRequest(id=RUN), timeout=10)
        assert [RUN] == [each.run.id async for each in watch]
        spans = await served.spans()

    call = spans.only(WATCH_RUN)
    assert [] == spans.named("poll")
    assert {call.trace_id} == {each.trace_id for each in spans.named("fetch")}


async def test_unknown_method_is_traced_under_one_name() -> None:
    """The name of the span isn't the caller's choice."""
    async with rig() as (_, __, served):
        target = str(served.served.address)
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary("/no.Such/Method")
            assert grpc.StatusCode.UNIMPLEMENTED is (await refused(call(b""))).code
        spans = await served.spans()

    call = spans.only("grpc")
    assert ("METHOD_UNKNOWN", True) == (call.reason, call.is_error)
    assert "_OTHER" == call.attributes["rpc.method"]
    assert "no.Such/Method" == call.attributes["rpc.method_original"]


async def test_watch_has_short_spans() -> None:
    """The opening, each change and the end of a watch are spans; no span lasts."""
    async with rig(**SOON) as (stub, upstream, served):
        go_on = asyncio.Event()
        upstream.lie(
            RUN,
            http(true_run(RUN, status="RUNNING")),
            [go_on, http(true_run(RUN, status="COMPLETED"))],
        )
        request = WatchRunRequest(id=RUN, heartbeat_interval=Duration(seconds=1))
        messages = stub.WatchRun(request, timeout=10)
        async for message in messages:
            if not message.HasField("run"):
                go_on.set()
        spans = await served.spans()

    opening, change, end = (
        spans.only(name) for name in (WATCH_RUN, "watch change", "stream end")
    )
    assert [opening.id] * 2 == [change.parent, end.parent]
    assert opening.end <= change.start <= change.end <= end.start
    assert ["state"] == [each.name for each in opening.events]
    beats, state = change.events[:-1], change.events[-1]
    assert {"heartbeat"} == {each.name for each in beats}
    assert ("state", "COMPLETED") == (
        state.name,
        state.attributes["healthomics_gateway.run_status"],
    )
    assert "rpc.response.status_code" not in opening.attributes
    assert "OK" == end.attributes["rpc.response.status_code"]
    polls = spans.named("poll")
    assert [""] * len(polls) == [each.parent for each in polls]
    fetches = {each.id: each for each in spans.named("fetch")}
    (seen,) = change.links
    assert fetches[seen].parent in {each.id for each in polls}


async def test_watch_that_fails_has_one_span() -> None:
    """A watch that never opened has its outcome in the span of the call."""
    async with rig(**SOON) as (stub, upstream, served):
        upstream.lie(RUN, said(404, "ResourceNotFoundException"))
        call = stub.WatchRun(WatchRunRequest(id=RUN), timeout=10)
        await refused(call.read())
        spans = await served.spans()

    assert "RUN_NOT_FOUND" == spans.only(WATCH_RUN).reason
    assert [] == spans.named("stream end")


@pytest.mark.parametrize(
    "sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0)], ids=["off", "ratio"]
)
async def test_calls_that_are_not_sampled_have_no_spans(sampler: Any) -> None:
    """Nothing is exported; the log has the id of the caller's trace, if it has one."""
    with capture_logs() as log:
        async with rig(sampler=sampler, **SOON) as (stub, upstream, served):
            upstream.lie(RUN, http(true_run(RUN, status="COMPLETED")))
            await call_with(stub)
            await call_with(stub, ("traceparent", SAMPLED))
            await call_with(stub, ("traceparent", "no"))
            watch = stub.WatchRun(WatchRunRequest(id=RUN), timeout=10)
            assert [RUN] == [each.run.id async for each in watch]
            spans = await served.spans()

    assert [] == spans.spans
    lines = [each for each in log if each["event"] == "call"]
    assert [None, TRACE, None, None] == [each.get("trace_id") for each in lines]
    assert [] == [each for each in lines if "span_id" in each]


async def test_fetch_is_recorded_if_any_of_its_calls_is() -> None:
    """A sampled call that joins a fetch which waits gets all of its spans."""
    quota = {"GATEWAY_QUOTA__TPS": "2", "GATEWAY_QUOTA__BURST": "1"}
    async with rig(**quota) as (stub, upstream, served):
        await call_with(stub, ("traceparent", NOT_SAMPLED))
        unsampled = call_with(stub, ("traceparent", NOT_SAMPLED))
        await until(lambda: served.served.in_flight == 1)
        await asyncio.gather(unsampled, call_with(stub, ("traceparent", SAMPLED)))
        spans = await served.spans()

    assert 2 == len(upstream.requests)
    call, fetch = spans.only(GET_RUN), spans.only("fetch")
    assert call.id == fetch.parent
    parts = [spans.only(name) for name in ("queue", ATTEMPT, "translate")]
    assert [fetch.id] * 3 == [each.parent for each in parts]
