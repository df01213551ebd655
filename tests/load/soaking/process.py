"""Runs the gateway in a separate process and measures it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from load.replicating import store
from load.replicating.processes import descendants
from load.soaking.calls import DEFAULT_SECONDS
from load.soaking.judge import SESSION_TOKEN
from load.soaking.lies import ATTEMPT_SECONDS, CAP_BYTES
from testkit.arrivals import within_quota
from testkit.builders import UNPACED
from testkit.callers import SIGNER, rule, settings_of_tokens, token
from testkit.sts_server import FakeSts

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    "AWS_SESSION_TOKEN": SESSION_TOKEN,
    "AWS_DEFAULT_REGION": REGION,
}
DRAIN_SECONDS = 2
SETTINGS = {
    "GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT": f"{ATTEMPT_SECONDS:g}s",
    "GATEWAY_UPSTREAM__CONNECT_TIMEOUT": f"{ATTEMPT_SECONDS / 2:g}s",
    "GATEWAY_UPSTREAM__MAX_BODY_BYTES": str(CAP_BYTES),
    "GATEWAY_DEFAULT_DEADLINE": f"{DEFAULT_SECONDS:g}s",
    "GATEWAY_DRAIN_TIME": f"{DRAIN_SECONDS}s",
    # Full within the first fifth of ten minutes, so that later growth isn't the cache.
    "GATEWAY_CACHE__MAX_BYTES": "2097152",
    **UNPACED,
}
SECRETS = (SECRET_ACCESS_KEY, SESSION_TOKEN)  # must not even be in the log
# The load's caller has no limits, the attackers' anonymous callers have few places.
KNOWN = "soak"
RULES = rule(KNOWN) + rule("anonymous", calls_per_second=20, watches=400)
TOKEN_SECONDS = 100_000.0  # more than the longest soak
STALL_EVERY_SECONDS, STALL_SECONDS = 30.0, 5.0  # of the log's reader
START_SECONDS = 30.0
STOP_SECONDS = 4.0  # beyond the drain time
MAX_LINE_BYTES = 1 << 20
ESTABLISHED = "01"  # in /proc/net/tcp


class Log:
    """The gateway's log: one event a line, no bug, no secret."""

    def __init__(self) -> None:
        """Begin empty."""
        self.events: Counter[str] = Counter()  # by level and name
        self.faults: list[str] = []
        self.serving: dict[str, Any] = {}  # the event that contains its addresses

    def take(self, line: bytes) -> None:
        """Read one more line."""
        try:
            event: Any = json.loads(line)
            name, level = event["event"], event["level"]
        except (ValueError, TypeError, KeyError):
            self.faults.append(f"a line of the log isn't one event: {line[:300]!r}")
            return
        self.events[f"{level} {name}"] += 1
        if name == "bug":
            self.faults.append(f"the log reports a bug: {str(event)[:2000]}")
        if any(each.encode() in line for each in SECRETS):
            self.faults.append(f"the log contains a secret: {name}")
        if name == "serving":
            self.serving = event


class Served:
    """A running gateway; its log is read continuously."""

    def __init__(self, process: Process) -> None:
        """Take the process."""
        self._process = process
        self.pid = process.pid
        self.log = Log()
        self._is_serving = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._reader = asyncio.create_task(self._read())

    async def stall(self) -> None:
        """Stop reading the log for a while, again and again, until cancelled."""
        while True:
            await asyncio.sleep(STALL_EVERY_SECONDS)
            self._may_read.clear()
            try:
                await asyncio.sleep(STALL_SECONDS)
            finally:
                self._may_read.set()

    async def _read(self) -> None:
        assert self._process.stderr
        async for line in self._process.stderr:
            await self._may_read.wait()
            self.log.take(line)
            if self.log.serving:
                self._is_serving.set()
        self._is_serving.set()  # or never will be

    @property
    def address(self) -> str:
        """The address that serves gRPC."""
        return str(self.log.serving["address"])

    @property
    def admin_address(self) -> str:
        """The address of the admin pages."""
        return str(self.log.serving["admin_address"])

    @property
    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        return self._process.returncode is not None

    async def started(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(START_SECONDS):
            await self._is_serving.wait()
        if not self.log.serving:
            raise RuntimeError(f"the gateway doesn't start: {self.log.faults}")

    async def stop(self) -> str:
        """Ask it to end, and return what was wrong with that; empty if nothing was."""
        if self.has_ended:
            return f"the gateway ended by itself with {self._process.returncode}"
        self._process.terminate()
        try:
            async with asyncio.timeout(DRAIN_SECONDS + STOP_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            return "the gateway didn't end in time"
        return f"the gateway ended with {code}" if code else ""

    async def kill(self) -> None:
        """Kill the process."""
        if not self.has_ended:
            self._process.kill()
        await self._process.wait()
        await self._reader


@asynccontextmanager
async def sharing() -> AsyncIterator[dict[str, str]]:
    """Run a store and STS; return the settings of two workers that share the store."""
    sts = FakeSts(own_token=SESSION_TOKEN)
    async with store.serving() as (_valkey, line), sts:
        yield {
            **store.settings(line.port, replicas=1),
            "GATEWAY_WORKERS": "2",
            "AWS_ENDPOINT_URL_STS": sts.url,
        }


@asynccontextmanager
async def serving(url: str, **more: str) -> AsyncIterator[Served]:
    """Run `healthomics-gateway serve` with HealthOmics at `url`, and more settings."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "AWS_"))
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "gateway.toml"
        config.write_text(RULES)
        settings = SETTINGS | settings_of_tokens(folder, SIGNER)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "healthomics_gateway", "serve"),
            *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
            *("--config", str(config)),
            env=own | CREDENTIALS | settings | {"AWS_ENDPOINT_URL_OMICS": url} | more,
            stdout=DEVNULL,
            stderr=PIPE,
            limit=MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C ends the soak, which then ends the gateway
        )
        served = Served(process)
        try:
            await served.started()
            with within_quota(url, UNPACED):
                yield served
        finally:
            await served.kill()


def credential() -> tuple[str, str]:
    """Return the metadata that identifies the load's caller."""
    known = token(KNOWN, exp=time.time() + TOKEN_SECONDS)
    return "authorization", f"Bearer {known}"


def memory_and_threads(pid: int) -> tuple[float, int]:
    """Return the resident memory in MiB, and the number of threads, of a process.

    Its workers are counted too.
    """
    memory, threads = 0.0, 0
    for each in (pid, *descendants(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines)
            memory += int(fields["VmRSS"].split()[0]) / 1024
            threads += int(fields["Threads"])
    return memory, threads


def open_files(pid: int) -> int:
    """Return the number of open files of a process and its workers."""
    number = 0
    for each in (pid, *descendants(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            number += len(list(Path(f"/proc/{each}/fd").iterdir()))
    return number


def connections_to(port: int) -> int:
    """Return the number of open connections that a port of loopback accepted."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    local = f"0100007F:{port:04X}"
    return sum(
        row.split()[1] == local and row.split()[3] == ESTABLISHED for row in rows
    )
