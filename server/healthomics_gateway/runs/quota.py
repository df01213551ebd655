"""The quota of one AWS account, and the gate that limits requests to its rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from healthomics_gateway.token_bucket import TokenBucket

CUT = 0.7  # factor of the rate after a throttle
CUT_EVERY_SECONDS = 1.0  # at most: throttles that arrive together count once
RECOVERY_SECONDS = 50.0  # from a rate of 0 back to `tps`
LEAST_TPS = 0.5  # after throttles, unless `tps` is lower


class Quota:
    """Tokens that arrive at `tps` a second, up to `burst`, and slower after a throttle.

    There are two buckets, which fill alike. A call takes a token of `turns` when it is
    chosen to be sent, and one of `departures` when it is sent: the time between the two
    varies, so requests may be sent closer together than they were chosen.
    """

    def __init__(
        self,
        *,
        tps: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with full buckets."""
        self._tps = tps
        self._clock = clock
        self._cut_at = -inf
        self.turns = TokenBucket(rate=tps, capacity=burst, clock=clock)
        self.departures = TokenBucket(rate=tps, capacity=burst, clock=clock)

    @property
    def rate(self) -> float:
        """The current rate, in tokens a second."""
        return self.turns.rate

    @property
    def is_full(self) -> bool:
        """Return whether the buckets are full, at the full rate."""
        self.fill()
        is_whole = self.turns.is_full and self.departures.is_full
        return is_whole and self.rate >= self._tps

    def fill(self) -> None:
        """Add the tokens that arrived since the last time, and raise a reduced rate."""
        self.departures.fill()
        seconds = self.turns.fill()
        if self.rate < self._tps:
            gained = seconds * self._tps / RECOVERY_SECONDS
            self._set_rate(min(self.rate + gained, self._tps))

    def cut(self) -> None:
        """Multiply the rate by 0.7, once for all throttles within a second."""
        self.fill()
        now = self._clock()
        if now - self._cut_at >= CUT_EVERY_SECONDS:
            self._cut_at = now
            self._set_rate(min(max(self.rate * CUT, LEAST_TPS), self._tps))
            for bucket in (self.turns, self.departures):
                bucket.tokens = min(bucket.tokens, 0.0)

    def _set_rate(self, rate: float) -> None:
        self.turns.rate = self.departures.rate = rate


class Gate:
    """Lets one request be sent for each token, in the order of arrival.

    A request that is cancelled while it waits takes no token.
    """

    def __init__(
        self, quota: Quota, *, opened: Callable[[], None] = lambda: None
    ) -> None:
        """Use the departures of `quota`; call `opened` when no request waits."""
        self._quota = quota
        self._opened = opened
        self._order = asyncio.Lock()
        self.waiting = 0

    async def depart(self) -> None:
        """Wait until the request may be sent; the caller must send it at once."""
        self._quota.fill()
        if not self.waiting and self._quota.departures.take():
            return
        self.waiting += 1
        try:
            async with self._order:  # an asyncio lock is first come, first served
                await self._take()
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._opened()

    async def _take(self) -> None:
        departures = self._quota.departures
        self._quota.fill()
        while not departures.take():
            await asyncio.sleep(departures.wait_seconds)  # until a token arrives
            self._quota.fill()
