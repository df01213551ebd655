"""A source that asks the next one for so many runs at a time; the others wait."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from healthomics_gateway.errors import NotAskedError, Reason

if TYPE_CHECKING:
    from healthomics_gateway.runs import Answer, Call, RunQuery, RunSource

MARGIN_SECONDS = 0.02  # before its deadline a caller is told that its turn won't come
NEWEST_SHARE = 0.1  # of the newest in the average of how long a place is held


class Bulkhead:
    """Has `max_concurrent` places, given to those who wait in the order they came.

    A caller whose turn can't come before its deadline is refused at once, by how many
    wait before it and how long places have been held of late. Where that was too
    hopeful, it is refused just before its deadline.
    """

    def __init__(
        self,
        runs: RunSource,
        *,
        max_concurrent: int,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Wrap `runs`; `clock` is the deadlines', `jitter` draws from [0, 1)."""
        self._runs = runs
        self._places = asyncio.Semaphore(max_concurrent)
        self._max_concurrent = max_concurrent
        self._clock = clock
        self._jitter = jitter
        self._held_seconds = 0.0  # on average; 0 before anybody has left
        self._waiting = 0

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Ask when it is this call's turn, or raise GATEWAY_OVERLOADED."""
        if self._places.locked():
            await self._wait_for_place(call)
        else:
            await self._places.acquire()
        begun = self._clock()
        try:
            return await self._runs.get_run(query, call=call)
        finally:
            self._places.release()
            held = self._clock() - begun
            share = NEWEST_SHARE if self._held_seconds else 1.0
            self._held_seconds += share * (held - self._held_seconds)

    async def _wait_for_place(self, call: Call) -> None:
        left = call.deadline - self._clock()
        if self._wait_seconds() > left:
            raise self._refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(left - MARGIN_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._waiting -= 1

    def _wait_seconds(self) -> float:
        """Tell how long the next to come would wait."""
        return self._held_seconds * (self._waiting + 1) / self._max_concurrent

    def _refusal(self) -> NotAskedError:
        """Send the callers back apart from one another, about when there is room."""
        wait = self._wait_seconds() * (0.5 + self._jitter())
        return NotAskedError(Reason.GATEWAY_OVERLOADED, wait_seconds=wait)
