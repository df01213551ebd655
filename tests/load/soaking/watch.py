"""Runs beside the calls: samples, health pages, disturbances."""

from __future__ import annotations

import asyncio
import itertools
import time

import aiohttp

from load.soaking.ledger import Ledger
from load.soaking.process import (
    Served,
    connections_to,
    memory_and_threads,
    open_files,
)
from load.soaking.record import Record
from load.soaking.report import Progress
from load.soaking.samples import Finding
from load.soaking.upstream import SoakUpstream

SAMPLE_SECONDS = 1.0
PAGE_SECONDS = 5.0
LOOK_SECONDS = 0.05  # between two checks whether this program is delayed
STALL_SECONDS = 0.25  # a check that is this late shows a delay
OUTAGE_EVERY_SECONDS, OUTAGE_SECONDS = 15.0, 0.3
HANG_UP_EVERY_SECONDS = 5.0
REST_SECONDS = 5.0  # until all resources are as before the load
MORE_AT_REST = 4  # open files
REFUSED = "GATEWAY_CREDENTIALS_INVALID"
DOUBT_SECONDS = 35.0  # refused credentials may keep the gateway unready for so long


class Watch:
    """Measures the gateway under load, and disturbs its upstream."""

    def __init__(
        self, ledger: Ledger, record: Record, upstream: SoakUpstream, served: Served
    ) -> None:
        """Record the measurements in `record`."""
        self._ledger = ledger
        self._record = record
        self._upstream = upstream
        self._served = served
        self._files = open_files(served.pid)  # before the load

    async def run(self, seconds: float) -> None:
        """Run until cancelled; the load lasts this number of seconds."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sample(seconds))
            group.create_task(self._look_for_stalls())
            group.create_task(self._outages())
            group.create_task(self._hang_ups())

    async def rest(self) -> Finding:
        """Wait until nothing of the load is left: neither calls nor open files."""
        end = time.monotonic() + REST_SECONDS
        while True:
            await self._upstream.hang_up_idle()
            if self._served.has_ended:
                return Finding("the gateway ended under the load", fails=True)
            busy = self._upstream.busy
            more = max(open_files(self._served.pid) - self._files, 0)
            is_at_rest = not busy and more <= MORE_AT_REST
            if is_at_rest or time.monotonic() > end:
                sentence = (
                    f"after the load {busy} upstream calls are under way and {more}"
                    f" more files are open than before it (at most {MORE_AT_REST})"
                )
                return Finding(sentence, fails=not is_at_rest)
            await asyncio.sleep(LOOK_SECONDS)

    async def _sample(self, seconds: float) -> None:
        begun = time.monotonic()
        pid, port = self._served.pid, self._upstream.port
        async with aiohttp.ClientSession() as session:
            with Progress(seconds) as progress:
                for number in itertools.count(1):
                    due = begun + number * SAMPLE_SECONDS
                    await asyncio.sleep(due - time.monotonic())
                    if self._served.has_ended:
                        return
                    await self._ask_pages(session)
                    memory_mib, threads = memory_and_threads(pid)
                    self._record.sample(
                        at=time.monotonic() - begun,
                        memory_mib=memory_mib,
                        files=open_files(pid),
                        threads=threads,
                        connections=connections_to(port),
                    )
                    progress.show(self._record)

    async def _ask_pages(self, session: aiohttp.ClientSession) -> None:
        """Check that it is live; it may be unready only after refused credentials."""
        pages = f"http://{self._served.admin_address}"
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                async with session.get(f"{pages}/livez") as response:
                    is_live = response.ok
                async with session.get(f"{pages}/readyz") as response:
                    why = (await response.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._record.disagree("admin pages", type(error).__name__)
            return
        may_doubt = time.monotonic() - self._ledger.last_of(REFUSED) < DOUBT_SECONDS
        is_allowed = why == "ok" or (why == REFUSED and may_doubt)
        if not (is_live and is_allowed):
            self._record.disagree("admin pages", f"live: {is_live}, ready: {why}")

    async def _look_for_stalls(self) -> None:
        """Record when this program is delayed: its times aren't reliable then."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
            ended = time.monotonic()
            if ended - begun > LOOK_SECONDS + STALL_SECONDS:
                self._record.stalls += 1
                self._ledger.stall(begun, ended)

    async def _outages(self) -> None:
        while True:
            await asyncio.sleep(OUTAGE_EVERY_SECONDS)
            await self._upstream.outage(OUTAGE_SECONDS)

    async def _hang_ups(self) -> None:
        while True:
            await asyncio.sleep(HANG_UP_EVERY_SECONDS)
            await self._upstream.hang_up_idle()
