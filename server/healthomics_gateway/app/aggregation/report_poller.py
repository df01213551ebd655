"""Asks the workers for their reports, before a page is made and every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

from healthomics_gateway.app.aggregation.worker_reports import WorkerReports

ANSWER_SECONDS = 1.0  # that a page waits for a worker
NEW_SECONDS = 0.5  # so that requests in a loop can't use up the workers' CPU
PAUSE_SECONDS = 5.0  # between the reports if no page is requested


class ReportPoller:
    """Asks all workers at once, each for one report at a time."""

    def __init__(
        self,
        reports: WorkerReports,
        ask: Callable[[int], Awaitable[object]],
        *,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Put what `ask` returns for a worker's number into `reports`.

        It returns None if the worker can't answer.
        """
        self._reports = reports
        self._ask = ask
        self._answer_seconds = answer_seconds
        self._clock, self._sleep = clock, sleep
        self._asked: dict[tuple[int, int], asyncio.Task[None]] = {}  # by its process
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = -inf

    async def follow(self) -> None:
        """Ask every five seconds, until cancelled."""
        while True:
            await self.refresh()
            await self._sleep(PAUSE_SECONDS)  # between two reports

    async def refresh(self) -> None:
        """Ask all workers, unless that was half a second ago; wait at most 1 s.

        A worker that hasn't answered in time isn't waited for again before it has.
        """
        if self._clock() - self._refreshed_at < NEW_SECONDS:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        running = self._reports.running()
        for each in running.items():
            if each not in self._asked:
                self._asked[each] = asyncio.create_task(self._report(*each))
        for gone in self._asked.keys() - running.items():
            self._asked.pop(gone).cancel()
        awaited = {
            task: number
            for (number, _), task in self._asked.items()
            if not self._reports.is_silent(number)
        }
        if awaited:
            _, late = await asyncio.wait(awaited, timeout=self._answer_seconds)
            for task in late:
                self._reports.missed(awaited[task])
        self._refreshed_at = self._clock()

    async def _report(self, number: int, pid: int) -> None:
        try:
            data = await self._ask(number)
            if self._reports.running().get(number) != pid:
                return
            if data is None:
                self._reports.missed(number)
            else:
                self._reports.put(number, data)
        finally:
            self._asked.pop((number, pid), None)
