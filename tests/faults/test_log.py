"""A stderr that accepts nothing: calls, startup and shutdown aren't delayed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest

from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from testkit.builders import get_run, refused
from testkit.gateway_process import CREDENTIALS, PROGRAM
from unit.app.test_gateway import NOWHERE
from unit.cli.test_main import free_port

CALLS = 100
PATIENCE_SECONDS = 50.0  # for a busy machine
SMALL_PIPE = 8192  # bytes, two pages: full after some twenty calls


class Running:
    """A gateway in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, ports: list[int]) -> None:
        """Use the process, which listens on two ports."""
        self.process = process
        self._listen, self._admin = ports

    async def admin(self, page: str) -> str:
        """Return an admin page, once the address listens."""
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            aiohttp.ClientSession() as session,
        ):
            while True:
                try:
                    async with session.get(
                        f"http://127.0.0.1:{self._admin}{page}"
                    ) as got:
                        return await got.text()
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.02)

    async def call_often(self) -> None:
        """Make CALLS calls, each of which is refused for its ID."""
        address = f"127.0.0.1:{self._listen}"
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
            stub = RunServiceStub(channel)
            calls = [refused(get_run(stub, "x", seconds=50)) for _ in range(CALLS)]
            refusals = await asyncio.gather(*calls)
        assert {"INVALID_REQUEST"} == {each.reason for each in refusals}

    async def ended(self) -> int:
        """Terminate the process by SIGTERM and return its exit code."""
        self.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def running(stderr: int, *, redirect: str = "") -> AsyncIterator[Running]:
    """Run a gateway with this stderr, or with a shell's `redirect`."""
    ports = [free_port(), free_port()]
    listen, admin_listen = (f"127.0.0.1:{port}" for port in ports)
    command = [sys.executable, *PROGRAM, "serve"]
    command += ["--listen", listen, "--admin-listen", admin_listen]
    own = {key: value for key, value in os.environ.items() if "GATEWAY" not in key}
    settings = {"AWS_ENDPOINT_URL_OMICS": NOWHERE, "GATEWAY_DRAIN_TIME": "0s"}
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"exec {shlex.join(command)} {redirect}"),
        env=own | CREDENTIALS | settings,
        stderr=stderr,
    )
    try:
        yield Running(process, ports)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def wait_for_log_line(gateway: Running, words: str) -> str:
    """Wait until the line about the log contains the text."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            page = await gateway.admin("/readyz?verbose")
            (line,) = [each for each in page.splitlines() if each.startswith("log: ")]
            if words in line:
                return line
            await asyncio.sleep(0.02)


@contextmanager
def stalled() -> Iterator[int]:
    """Open a small pipe that isn't read until the end."""
    reader, end = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    yield end
    written = Path(f"/dev/fd/{reader}").read_bytes()
    os.close(reader)
    # A write of up to one page either fits into the pipe or writes nothing.
    assert len(written) > SMALL_PIPE // 4
    for line in written.splitlines():
        json.loads(line)


@contextmanager
def unread() -> Iterator[int]:
    """Open a pipe whose reader has closed it."""
    reader, end = os.pipe()
    os.close(reader)
    yield end


@contextmanager
def full() -> Iterator[int]:
    """Open a file on a device that is full."""
    yield os.open("/dev/full", os.O_WRONLY)


@pytest.mark.guarantee("blocked-stderr")
@pytest.mark.parametrize(
    ("stderr", "redirect", "why"),
    [
        pytest.param(stalled, "", "nothing reads them", id="stalled"),
        pytest.param(unread, "", "Broken pipe", id="unread"),
        pytest.param(full, "", "No space left on device", id="full"),
        pytest.param(unread, "2>&-", "Bad file descriptor", id="closed"),
    ],
)
async def test_blocked_stderr_delays_nothing(
    stderr: Callable[[], AbstractContextManager[int]], redirect: str, why: str
) -> None:
    """A gateway starts, answers and ends; `/readyz?verbose` reports the blocked log."""
    with stderr() as end:
        async with running(end, redirect=redirect) as gateway:
            os.close(end)
            await gateway.admin("/livez")
            await gateway.call_often()
            alive = await gateway.admin("/livez")
            line = await wait_for_log_line(gateway, why)
            code = await gateway.ended()

    assert "ok\n" == alive
    assert line.startswith("log: 0 lines lost (0 of the audit); ")
    assert line.endswith(f": {why}")
    assert 0 == code
