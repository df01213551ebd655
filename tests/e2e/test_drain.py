"""How the process ends: no call that was accepted is lost, and it ends in time."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from healthomics.v1.run_service_pb2 import WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from testkit.arrivals import within_quota
from testkit.builders import UNPACED, Sandbox, Upstream, get_run, refused

SERVICE_CONFIG = Path(__file__).parents[2] / "clients/service-config.json"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_DEFAULT_REGION": REGION,
}
PROGRAM = ("-m", "healthomics_gateway")
WITHOUT_UVLOOP = (
    "import sys; sys.modules['uvloop'] = None;"
    " from healthomics_gateway.cli.main import main; sys.exit(main())"
)
NEVER = [600.0]  # an upstream that says nothing
START_SECONDS = 20.0
LOOK_SECONDS = 0.01
SMALL_PIPE = 4096  # bytes
STOP_SECONDS = 2.0  # beyond the drain time


class Served:
    """A gateway in a process of its own, its log read as it comes."""

    def __init__(self, process: Process) -> None:
        """Know the process."""
        self.process = process
        self.address = ""
        self.admin_address = ""
        self._is_stalled = False
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self._events.put_nowait(json.loads(line))

    async def event(self, name: str) -> dict[str, Any]:
        """Wait until it logs an event."""
        async with asyncio.timeout(START_SECONDS):
            while (event := await self._events.get())["event"] != name:
                pass
        return event

    def events(self) -> list[dict[str, Any]]:
        """Return the events that nobody has waited for."""
        return [self._events.get_nowait() for _ in range(self._events.qsize())]

    def stall(self) -> None:
        """Read no more of its log until it has ended; a few lines fill the pipe."""
        self._is_stalled = True
        pipe = self._log_pipe()
        pipe.pause_reading()
        fcntl.fcntl(pipe.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, SMALL_PIPE)

    def _log_pipe(self) -> Any:
        return self.process._transport.get_pipe_transport(2)  # noqa: SLF001  # asyncio keeps it to itself

    def terminate(self) -> None:
        """Ask it to end, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float) -> int:
        """Give its exit code; it must end within `seconds`."""
        async with asyncio.timeout(seconds):
            while self.process.returncode is None:  # noqa: ASYNC110  # `wait` waits for a stalled log too
                await asyncio.sleep(LOOK_SECONDS)
            if self._is_stalled:
                self._log_pipe().resume_reading()
            code = await self.process.wait()
            await self._reader
        return code


@asynccontextmanager
async def serving(
    url: str,
    *,
    program: Sequence[str] = PROGRAM,
    arguments: Sequence[str] = (),
    stdout: int | None = None,
    **settings: str,
) -> AsyncIterator[Served]:
    """Run `healthomics-gateway serve`, asking HealthOmics at `url`."""
    async with starting(
        url, program=program, arguments=arguments, stdout=stdout, **settings
    ) as served:
        event = await served.event("serving")
        served.address = event["address"]
        served.admin_address = event["admin_address"]
        yield served


@asynccontextmanager
async def starting(
    url: str,
    *,
    program: Sequence[str] = PROGRAM,
    arguments: Sequence[str] = (),
    stdout: int | None = None,
    **settings: str,
) -> AsyncIterator[Served]:
    """Run it, and don't wait until it serves."""
    own = {key: value for key, value in os.environ.items() if "GATEWAY" not in key}
    settings = UNPACED | settings
    with within_quota(url, settings):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "serve", *arguments),
            *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
            env=own | CREDENTIALS | {"AWS_ENDPOINT_URL_OMICS": url} | settings,
            stdout=stdout,
            stderr=PIPE,
        )
        served = Served(process)
        try:
            yield served
        finally:
            if process.returncode is None:
                process.kill()
                await served.ended(STOP_SECONDS)


@asynccontextmanager
async def client(*gateways: Served, **options: Any) -> AsyncIterator[Any]:
    """Open one channel to all gateways."""
    target = "ipv4:" + ",".join(each.address for each in gateways)
    async with grpc.aio.insecure_channel(target, list(options.items())) as channel:
        yield RunServiceStub(channel)


@pytest.mark.guarantee("drain-calls")
@pytest.mark.fault(34)
async def test_drain_loses_none_of_300_calls_in_flight() -> None:
    """At SIGTERM 300 calls are under way: each gets its answer, and it exits 0."""
    begun = asyncio.Event()
    waiting = 0
    release = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 300:
            begun.set()
        await release.wait()

    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            Sandbox(quota_per_second=0, latency_seconds=1.0, sleep=sleep)
        )
        served = await stack.enter_async_context(
            serving(sandbox.url, GATEWAY_UPSTREAM__MAX_CONCURRENT="300")
        )
        stub = await stack.enter_async_context(client(served))
        ids = [str(5000001 + at) for at in range(300)]
        calls = [asyncio.create_task(get_run(stub, each, seconds=30)) for each in ids]
        async with asyncio.timeout(START_SECONDS):
            await begun.wait()
        served.terminate()
        release.set()
        runs = await asyncio.gather(*calls)
        code = await served.ended(25 + STOP_SECONDS)

    assert ids == [run.id for run in runs]
    assert 0 == code


@pytest.mark.guarantee("drain-watches")
@pytest.mark.fault(35)
async def test_drain_ends_watches_and_waits_for_none() -> None:
    """Open watches don't hold the process up, and are told to go elsewhere."""
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
        lasted = time.monotonic() - begun

    told = {(each.code, each.reason) for each in failures}
    assert {(StatusCode.UNAVAILABLE, "GATEWAY_DRAINING")} == told
    assert {"1000003"} == {each.metadata["runId"] for each in failures}
    assert 0 == code
    assert lasted <= STOP_SECONDS


async def test_gateway_without_uvloop_serves_and_ends_well() -> None:
    """It runs on asyncio's own loop, ignores SIGUSR1 and SIGUSR2, drains at SIGHUP."""
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
    """What is under way ends GATEWAY_DRAINING then, and the log tells of no failure."""
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
