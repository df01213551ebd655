"""Graceful shutdown of a gateway process."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import WatchRunRequest
from healthomics_gateway.app.shutdown import FORCED
from testkit.builders import Sandbox, Upstream, get_run, refused
from testkit.gateway_process import (
    NEVER,
    START_SECONDS,
    STOP_SECONDS,
    client,
    serving,
)

WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None;"
    " from healthomics_gateway.cli.main import main; sys.exit(main())"
)


@pytest.mark.guarantee("drain-watches")
@pytest.mark.fault(35)
async def test_drain_ends_watches_at_once() -> None:
    """Open watches end with GATEWAY_DRAINING, and don't delay the shutdown."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        serving(sandbox.url, GATEWAY_DRAIN_TIME="60s") as served,
        client(served) as stub,
    ):
        watches = [stub.WatchRun(WatchRunRequest(id="1000003")) for _ in range(100)]
        for watch in watches:
            assert "1000003" == (await watch.read()).run.id
        begun = time.monotonic()
        served.terminate()
        failures = [await refused(watch.read()) for watch in watches]
        code = await served.ended(STOP_SECONDS)

    ends = {(each.code, each.reason) for each in failures}
    assert {(StatusCode.UNAVAILABLE, "GATEWAY_DRAINING")} == ends
    assert {"1000003"} == {each.metadata["runId"] for each in failures}
    assert 0 == code
    assert served.ended_at - begun <= STOP_SECONDS


async def test_gateway_without_uvloop_serves_and_drains() -> None:
    """On asyncio's own loop SIGUSR1 and SIGUSR2 are ignored, and SIGHUP drains it."""
    async with (
        Sandbox() as sandbox,
        serving(sandbox.url, program=("-c", WITHOUT_UVLOOP)) as served,
        client(served) as stub,
    ):
        assert "1000003" == (await get_run(stub, "1000003")).id
        for each in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            served.process.send_signal(each)
        await served.event("draining")
        assert 0 == await served.ended(25 + STOP_SECONDS)


@pytest.mark.guarantee("second-signal")
@pytest.mark.fault(35)
async def test_second_signal_ends_the_drain() -> None:
    """At a second signal calls end with GATEWAY_DRAINING, and no failure is logged."""
    async with (
        Upstream(NEVER) as upstream,
        serving(upstream.url, GATEWAY_DRAIN_TIME="60s") as served,
        client(served) as stub,
    ):
        call = asyncio.create_task(refused(get_run(stub, "1000003", seconds=60)))
        async with asyncio.timeout(START_SECONDS):
            await upstream.asked.wait()
        served.process.send_signal(signal.SIGINT)
        await served.event("draining")
        served.process.send_signal(signal.SIGINT)
        failure = await call
        code = await served.ended(STOP_SECONDS)

    assert (StatusCode.UNAVAILABLE, "GATEWAY_DRAINING") == (
        failure.code,
        failure.reason,
    )
    assert 0 == code
    assert {"info"} == {each["level"] for each in served.events()}


async def test_third_signal_loses_no_line_of_the_audit() -> None:
    """Lines that aren't written yet are written before the process ends."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        serving(sandbox.url, GATEWAY_DRAIN_TIME="60s") as served,
        client(served) as stub,
    ):
        for _ in range(9):
            await get_run(stub, "1000003")
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            served.process.send_signal(each)
        code = await served.ended(STOP_SECONDS)

    assert FORCED == code
    assert 9 == [each["event"] for each in served.events()].count("call")
