"""The calls under way: counted, so that a shutdown can wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.eviction import Evictions

QUIET_SECONDS = 0.5  # without a call under way or arriving, and for the news to spread
LAST_CALLS_SHARE = 0.2  # of the drain time: new calls are refused, the others end
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
        self._inside: set[asyncio.Task[Any]] = set()
        self._lasting: set[asyncio.Task[Any]] = set()
        self._evictions = Evictions()
        self._last_seen = clock()  # when a call was last inside

    def intercept(self, proceed: Handler) -> Handler:
        """Count the calls; end with GATEWAY_DRAINING those that come too late."""
        return self._stage(proceed, self._inside)

    def lasting(self, proceed: Handler) -> Handler:
        """Do the same for calls that have no end of their own: none is waited for."""
        return self._stage(proceed, self._lasting)

    def _stage(self, proceed: Handler, tasks: set[asyncio.Task[Any]]) -> Handler:
        async def handle(incoming: Any, context: CallContext) -> bytes:
            if self._is_closed:
                raise GatewayError(Reason.GATEWAY_DRAINING)
            task = context.task
            tasks.add(task)
            try:
                return await proceed(incoming, context)
            except asyncio.CancelledError:
                self._evictions.check(task)
                raise
            finally:
                self._evictions.forget(task)
                tasks.discard(task)
                if tasks is self._inside:
                    self._last_seen = self._clock()

        return handle

    async def drain(self, seconds: float) -> None:
        """Serve on until it is quiet; towards the end refuse what is new.

        Takes at most `seconds`. A load balancer that was told to go elsewhere needs
        the first part, callers that stay on their connection the second. What is
        inside then stays for `evict`.
        """
        self._last_seen = self._clock()
        end = self._last_seen + seconds
        await self._quiet(until=end - seconds * LAST_CALLS_SHARE)
        self._is_closed = True
        await self._empty(until=end)

    async def evict(self, seconds: float) -> None:
        """End with GATEWAY_DRAINING every call that is inside or still comes.

        Waits until their statuses have left, and takes at most `seconds`.
        """
        self._is_closed = True
        inside = self._inside | self._lasting
        for task in inside:
            self._evictions.evict(task, GatewayError(Reason.GATEWAY_DRAINING))
        if inside:
            await asyncio.wait(inside, timeout=seconds)

    async def _quiet(self, *, until: float) -> None:
        while (now := self._clock()) < until:
            if not self._inside and now - self._last_seen >= QUIET_SECONDS:
                return
            await self._sleep(LOOK_SECONDS)

    async def _empty(self, *, until: float) -> None:
        while self._inside and self._clock() < until:
            await self._sleep(LOOK_SECONDS)
