"""Run `healthomics-gateway serve` in a process of its own, and read its log."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from testkit.arrivals import within_quota
from testkit.builders import ANYWHERE, UNPACED

SERVICE_CONFIG = Path(__file__).parents[2] / "clients/service-config.json"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_DEFAULT_REGION": REGION,
}
PROGRAM = ("-m", "healthomics_gateway")
START_SECONDS = 20.0
STOP_SECONDS = 2.0  # beyond the drain time
SMALL_PIPE = 4096  # bytes
NEVER = [600.0]  # seconds until the upstream answers: not within any test


class Served:
    """A gateway in a process of its own, whose log is read while it runs."""

    def __init__(self, process: Process) -> None:
        """Read the log of the process."""
        self.process = process
        self.address = ""
        self.admin_address = ""
        self.ended_at = 0.0  # by the monotonic clock
        self._is_stalled = False
        self._pidfd = os.pidfd_open(process.pid)
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self._events.put_nowait(json.loads(line))

    async def event(self, *names: str) -> dict[str, Any]:
        """Wait until the gateway logs an event with such a name, and return it."""
        async with asyncio.timeout(START_SECONDS):
            while (event := await self._events.get())["event"] not in names:
                pass
        return event

    def events(self) -> list[dict[str, Any]]:
        """Return the events that no call of `event` has consumed."""
        return [self._events.get_nowait() for _ in range(self._events.qsize())]

    def stall(self) -> None:
        """Stop reading the log until the process has ended. Few lines fill the pipe."""
        self._is_stalled = True
        pipe = self._log_pipe()
        pipe.pause_reading()
        fcntl.fcntl(pipe.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, SMALL_PIPE)

    def _log_pipe(self) -> Any:
        return self.process._transport.get_pipe_transport(2)  # noqa: SLF001  # asyncio has no public way

    def terminate(self) -> None:
        """Send SIGTERM, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float) -> int:
        """Return the exit code. Raises TimeoutError if it doesn't end within `seconds`.

        A thread measures the time: on a busy machine this event loop can be held up for
        longer than the process takes to end.
        """
        await asyncio.to_thread(self._wait, time.monotonic() + seconds)
        if self._is_stalled:
            self._log_pipe().resume_reading()
        code = await self.process.wait()
        await self._reader
        return code

    def _wait(self, until: float) -> None:
        process = select.poll()
        process.register(self._pidfd, select.POLLIN)
        if not process.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        self.ended_at = time.monotonic()

    def close(self) -> None:
        """Release the process's descriptor."""
        os.close(self._pidfd)


@asynccontextmanager
async def serving(
    url: str,
    *,
    program: Sequence[str] = PROGRAM,
    arguments: Sequence[str] = (),
    stdout: int | None = None,
    listen: str = ANYWHERE,
    **settings: str,
) -> AsyncIterator[Served]:
    """Run `healthomics-gateway serve` with HealthOmics at `url`, until it serves."""
    async with starting(
        url,
        program=program,
        arguments=arguments,
        stdout=stdout,
        listen=listen,
        **settings,
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
    listen: str = ANYWHERE,
    **settings: str,
) -> AsyncIterator[Served]:
    """Run `healthomics-gateway serve`, without waiting until it serves."""
    own = {key: value for key, value in os.environ.items() if "GATEWAY" not in key}
    settings = UNPACED | settings
    with within_quota(url, settings):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "serve", *arguments),
            *("--listen", listen, "--admin-listen", ANYWHERE),
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
            served.close()


@asynccontextmanager
async def client(*gateways: Served, **options: Any) -> AsyncIterator[Any]:
    """Open one channel to all gateways, and return a stub."""
    target = "ipv4:" + ",".join(each.address for each in gateways)
    async with grpc.aio.insecure_channel(target, list(options.items())) as channel:
        yield RunServiceStub(channel)
