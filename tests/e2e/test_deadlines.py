"""When calls end: by their deadline always, and a cancelled one asks no longer."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import GetRunRequest
from testkit.builders import Upstream, aws_at, calling, gateway, get_run, http, refused

NEVER = [600.0]  # an upstream that says nothing
PATIENCE_SECONDS = 5.0  # for what must happen soon


@pytest.mark.parametrize("seconds", [0.0, 0.001])
async def test_deadline_too_short_asks_nothing(seconds: float) -> None:
    """A call without time for an answer ends at once, without an upstream call."""
    async with (
        Upstream(NEVER) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        await stub.GetRun(GetRunRequest(id="x"), wait_for_ready=True).code()
        failure = await refused(get_run(stub, "1000003", seconds=seconds))

    assert StatusCode.DEADLINE_EXCEEDED == failure.code
    assert [] == upstream.requests


@pytest.mark.guarantee("deadlines")
async def test_deadline_of_the_caller_ends_its_call() -> None:
    """A call ends by its deadline though HealthOmics says nothing, and asks no more."""
    async with (
        Upstream(NEVER) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        begun = time.monotonic()
        failure = await refused(get_run(stub, "1000003", seconds=0.3))
        lasted = time.monotonic() - begun
        async with asyncio.timeout(PATIENCE_SECONDS):
            await upstream.hung_up.wait()

    assert StatusCode.DEADLINE_EXCEEDED == failure.code
    assert lasted >= 0.3
    assert 1 == len(upstream.requests)


@pytest.mark.guarantee("deadlines")
async def test_deadline_of_the_server_holds_where_the_caller_has_none() -> None:
    """A call without a deadline ends by the default, and says whose deadline it was."""
    async with (
        Upstream(NEVER) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_DEFAULT_DEADLINE="200ms") as served,
        calling(served) as stub,
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            failure = await refused(get_run(stub, "1000003", seconds=None))
            await upstream.hung_up.wait()

    assert (StatusCode.DEADLINE_EXCEEDED, "SERVER_DEADLINE") == (
        failure.code,
        failure.reason,
    )
    assert {"runId": "1000003", "region": "us-east-1", "attempts": "1"} == (
        failure.metadata
    )
    assert "-1" == failure.trailers["grpc-retry-pushback-ms"]


async def test_deadline_leaves_the_failure_that_it_cut_short() -> None:
    """A failure whose retry would come too late is told instead of a deadline."""
    throttled = http(
        status=429, x_amzn_errortype="ThrottlingException", x_amz_retry_after="4000"
    )
    async with (
        Upstream(throttled) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        failure = await refused(get_run(stub, "1000003", seconds=3))

    assert "UPSTREAM_THROTTLED" == failure.reason
    assert 1 == len(upstream.requests)
    assert 4000 <= int(failure.trailers["grpc-retry-pushback-ms"]) <= 5000


@pytest.mark.guarantee("cancelled-calls")
async def test_cancelled_call_stops_the_upstream_call() -> None:
    """A caller that leaves takes the call to HealthOmics with it."""
    async with (
        Upstream(NEVER) as upstream,
        gateway(aws_at(upstream.url)) as served,
        calling(served) as stub,
    ):
        call = stub.GetRun(GetRunRequest(id="1000003"), timeout=60)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await upstream.asked.wait()
            call.cancel()
            await upstream.hung_up.wait()
        assert StatusCode.CANCELLED == await call.code()


@pytest.mark.guarantee("cancelled-calls")
async def test_client_that_vanishes_stops_the_upstream_call() -> None:
    """A connection that is closed takes its calls to HealthOmics with it."""
    async with Upstream(NEVER) as upstream, gateway(aws_at(upstream.url)) as served:
        async with calling(served) as stub:
            call = stub.GetRun(GetRunRequest(id="1000003"), timeout=60)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await upstream.asked.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await upstream.hung_up.wait()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
