"""Counts the calls under way, so that a shutdown can wait for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.eviction import Evictions

QUIET_SECONDS = 0.5  # without any call, so that load balancers have noticed
LAST_CALLS_SHARE = 0.2  # of the drain time, at its end: new calls are refused
LOOK_SECONDS = 0.02


class Drain:
    """Counts calls, refuses new ones during a shutdown, and ends those that remain."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start with no calls, and accept new ones."""
        self._clock = clock
        self._sleep = sleep
        self._is_closed = False
        self._unary: set[asyncio.Task[Any]] = set()
        self._lasting: set[asyncio.Task[Any]] = set()
        self._evictions = Evictions()
        self._last_seen = clock()  # when a call last ended

    def intercept(self, proceed: Handler) -> Handler:
        """Count the calls. Raises GATEWAY_DRAINING for new calls late in a shutdown."""
        return self._count(proceed, self._unary)

    def lasting(self, proceed: Handler) -> Handler:
        """Count calls without a fixed end, as watches are; `drain` won't wait for them.

        Raises GATEWAY_DRAINING like `intercept`.
        """
        return self._count(proceed, self._lasting)

    def _count(self, proceed: Handler, tasks: set[asyncio.Task[Any]]) -> Handler:
        async def handle(incoming: Any, call: CallContext) -> bytes:
            if self._is_closed:
                raise GatewayError(Reason.GATEWAY_DRAINING)
            task = call.task
            tasks.add(task)
            try:
                with self._evictions.scope(task):
                    return await proceed(incoming, call)
            finally:
                tasks.discard(task)
                if tasks is self._unary:
                    self._last_seen = self._clock()

        return handle

    async def drain(self, seconds: float) -> None:
        """Serve calls until there are none for a while; refuse new ones at the end.

        Takes at most `seconds`. In the first part load balancers learn to use other
        gateways; in the last part clients that stay on their connection are refused.
        `evict` ends the calls that are still under way then.
        """
        self._last_seen = self._clock()
        end = self._last_seen + seconds
        await self._wait_for_quiet(until=end - seconds * LAST_CALLS_SHARE)
        self._is_closed = True
        await self._wait_until_empty(until=end)

    async def evict(self, seconds: float) -> None:
        """End every call with GATEWAY_DRAINING, and refuse new ones.

        Waits at most `seconds` until their statuses are sent.
        """
        self._is_closed = True
        under_way = self._unary | self._lasting
        for task in under_way:
            self._evictions.evict(task, GatewayError(Reason.GATEWAY_DRAINING))
        if under_way:
            await asyncio.wait(under_way, timeout=seconds)

    async def _wait_for_quiet(self, *, until: float) -> None:
        while (now := self._clock()) < until:
            if not self._unary and now - self._last_seen >= QUIET_SECONDS:
                return
            await self._sleep(LOOK_SECONDS)

    async def _wait_until_empty(self, *, until: float) -> None:
        while self._unary and self._clock() < until:
            await self._sleep(LOOK_SECONDS)
