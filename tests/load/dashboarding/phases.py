"""The load behind the picture: a quiet time, a burst, a busy account, watches."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, cycle
from typing import Any

import grpc

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from load.crowding.account import Account
from testkit.callers import bearing, rule, token

PORTAL, LIMS = "spiffe://corp/ns/portal/sa/web", "spiffe://corp/ns/lims/sa/reader"
RULES = (
    rule("spiffe://corp/ns/portal/*")
    + rule("spiffe://corp/ns/lims/*", watches=500)
    + rule("anonymous", calls_per_second=5)
)
SETTINGS = {"GATEWAY_WATCH__INTERVAL": "2s"}
EXPIRY = 4_000_000_000  # of the tokens: later than any load
PAGE_RUNS, PAGE_A_SECOND, PAGE_AGE = 20, 20.0, timedelta(seconds=5)
ANONYMOUS_A_SECOND = 8.0
QUIET_A_SECOND, BURST_A_SECOND, BUSY_A_SECOND = 1.0, 60.0, 7.0
DEADLINE_SECONDS = 2.0
OTHERS_TPS = 8.0  # of another program that uses the account
WATCHES, WATCHED_RUNS = 60, 10
CHANGE_SECONDS = 0.6
STATES = ("STARTING", "RUNNING", "STOPPING", "COMPLETED")
FIRST_ID, PAGE_ID, WATCHED_ID = 5_000_000, 4_000_000, 6_000_000

Metadata = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Load:
    """The callers of a gateway, and how their calls ended."""

    stub: Any
    account: Account
    ends: Counter[str] = field(default_factory=Counter)  # by code
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _ids: count[int] = field(default_factory=lambda: count(FIRST_ID))
    _lims: Metadata = field(default_factory=lambda: bearing(token(LIMS, exp=EXPIRY)))

    async def close(self) -> None:
        """End all calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Awaitable[None]) -> None:
        """Run `work` until it ends, or until the load does."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def background(self) -> None:
        """Show pages of runs to people, beside a caller that is over its limit."""
        portal = bearing(token(PORTAL, exp=EXPIRY))
        pages = cycle(range(PAGE_ID, PAGE_ID + PAGE_RUNS))

        def page() -> Awaitable[None]:
            request = GetRunRequest(id=str(next(pages)))
            request.max_staleness.FromTimedelta(PAGE_AGE)
            return self._call(request, portal)

        def anonymous() -> Awaitable[None]:
            request = GetRunRequest(id=str(PAGE_ID))
            request.max_staleness.FromTimedelta(PAGE_AGE)
            return self._call(request, ())

        await asyncio.gather(
            self._each(PAGE_A_SECOND, page), self._each(ANONYMOUS_A_SECOND, anonymous)
        )

    async def quiet(self) -> None:
        """Ask for one run a second."""
        await self._each(QUIET_A_SECOND, self._fresh)

    async def burst(self) -> None:
        """Ask for more runs than the quota allows."""
        await self._each(BURST_A_SECOND, self._fresh)

    async def busy(self) -> None:
        """Ask for runs while another program uses most of the account's quota."""

        async def other() -> None:
            self.account.bucket.take()

        await asyncio.gather(
            self._each(OTHERS_TPS, other), self._each(BUSY_A_SECOND, self._fresh)
        )

    async def watches(self) -> None:
        """Watch runs that change, several watches for each."""
        ids = [str(WATCHED_ID + at) for at in range(WATCHED_RUNS)]
        for at in range(WATCHES):
            self.start(self._watch(ids[at % WATCHED_RUNS]))
        for state in STATES:
            for run_id in ids:
                await asyncio.sleep(CHANGE_SECONDS)
                self.account.statuses[run_id] = state

    def _fresh(self) -> Awaitable[None]:
        return self._call(GetRunRequest(id=str(next(self._ids))), self._lims)

    async def _each(self, a_second: float, call: Callable[[], Awaitable[None]]) -> None:
        """Start `call` so many times a second, until cancelled."""
        begun = time.monotonic()
        for number in count():
            due = begun + number / a_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.start(call())

    async def _call(self, request: GetRunRequest, metadata: Metadata) -> None:
        try:
            await self.stub.GetRun(request, timeout=DEADLINE_SECONDS, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self.ends[error.code().name] += 1
        else:
            self.ends["OK"] += 1

    async def _watch(self, run_id: str) -> None:
        request = WatchRunRequest(id=run_id)
        with suppress(grpc.aio.AioRpcError):
            async for _ in self.stub.WatchRun(request, metadata=self._lims):
                pass


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the load, and how long it lasts."""

    name: str
    seconds: float
    work: Callable[[Load], Awaitable[None]]


PHASES = (
    Phase("steady", 15.0, Load.quiet),
    Phase("burst", 15.0, Load.burst),
    Phase("account used by others", 20.0, Load.busy),
    Phase("watches", 30.0, Load.watches),
)


async def run(load: Load, *, share: float) -> None:
    """Run the phases one after another, each for a share of its time."""
    load.start(load.background())
    for phase in PHASES:
        with suppress(TimeoutError):
            async with asyncio.timeout(phase.seconds * share):
                await phase.work(load)
                await asyncio.Future()  # until the end of the phase
