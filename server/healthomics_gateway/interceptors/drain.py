"""The calls under way: counted, so that a shutdown can wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from healthomics_gateway.errors import GatewayError, Reason
from healthomics_gateway.interceptors.exchange import Exchange, Handler

QUIET_SECONDS = 0.5  # without a call under way or arriving, and for the news to spread
LAST_CALLS_SHARE = 0.2  # of the drain time: new calls are refused, the others end
HOLD_SECONDS = 0.2  # at the end of it: new calls are neither served nor refused
LOOK_SECONDS = 0.02


class Drain:
    """Lets calls in until a shutdown refuses them, and knows which are inside."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Begin open, with nobody inside."""
        self._clock = clock
        self._sleep = sleep
        self._is_closed = False
        self._is_holding = False
        self._inside: set[asyncio.Task[Any]] = set()
        self._evicted: set[asyncio.Task[Any]] = set()
        self._last_seen = clock()  # when a call was last inside

    @property
    def inside(self) -> int:
        """How many calls are under way."""
        return len(self._inside)

    def stage(self, proceed: Handler) -> Handler:
        """Count the calls; end with GATEWAY_DRAINING those that come too late."""

        async def handle(incoming: Any, exchange: Exchange) -> bytes:
            if self._is_closed and not self._is_holding:
                raise GatewayError(Reason.GATEWAY_DRAINING)
            task = asyncio.current_task()
            if task is None:
                raise RuntimeError("a call runs in a task")
            self._inside.add(task)
            try:
                if self._is_holding:
                    await asyncio.Event().wait()  # to be evicted with the others
                return await proceed(incoming, exchange)
            except asyncio.CancelledError:
                if task not in self._evicted:
                    raise
                task.uncancel()
                raise GatewayError(Reason.GATEWAY_DRAINING) from None
            finally:
                self._inside.discard(task)
                self._last_seen = self._clock()

        return handle

    async def drain(self, seconds: float) -> None:
        """Serve on until it is quiet, refuse what is new towards the end, then hold it.

        Takes at most `seconds`. A load balancer that was told to go elsewhere needs
        the first part, callers that stay on their connection the second. What is
        inside then stays for `evict`.
        """
        self._last_seen = self._clock()
        end = self._last_seen + seconds
        await self._quiet(until=end - seconds * LAST_CALLS_SHARE)
        self._is_closed = True
        hold = min(HOLD_SECONDS, seconds)
        await self._empty(until=end - hold)
        self._is_holding = True
        await self._sleep(hold)

    def evict(self) -> None:
        """End with GATEWAY_DRAINING every call that is inside or still comes."""
        self._is_closed, self._is_holding = True, False
        self._evicted = set(self._inside)
        for task in self._evicted:
            task.cancel()

    async def _quiet(self, *, until: float) -> None:
        while (now := self._clock()) < until:
            if not self._inside and now - self._last_seen >= QUIET_SECONDS:
                return
            await self._sleep(LOOK_SECONDS)

    async def _empty(self, *, until: float) -> None:
        while self._inside and self._clock() < until:
            await self._sleep(LOOK_SECONDS)
