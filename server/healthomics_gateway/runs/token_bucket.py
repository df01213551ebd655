"""The token bucket of one AWS account, and the gate that holds requests to its rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

CUT = 0.7  # of the rate, after a throttle
CUT_EVERY_SECONDS = 1.0  # at most: throttles that come together are one
RECOVERY_SECONDS = 50.0  # from nothing back to the whole rate
LEAST_TPS = 0.5
WHOLE = 1 - 1e-6  # token: sums of fractions fall short of one


class TokenBucket:
    """Tokens that come at `tps` a second, up to `burst` of them.

    It holds two kinds, which come alike. A call takes one of `turns` when it is chosen
    to be sent, and one of `departures` when it is sent: what happens between the two
    takes time, so that requests may leave closer together than they were chosen.
    """

    def __init__(
        self,
        *,
        tps: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a full bucket."""
        self._tps = tps
        self._burst = burst
        self._clock = clock
        self.rate = tps  # tokens a second, at the moment
        self.turns = float(burst)
        self.departures = float(burst)
        self._filled = clock()  # when the tokens were last counted
        self._cut = -inf  # when the rate was last cut

    def fill(self) -> None:
        """Count the tokens that have come since the last time."""
        now = self._clock()
        seconds, self._filled = now - self._filled, now
        tokens = seconds * self.rate
        self.turns = min(self.turns + tokens, self._burst)
        self.departures = min(self.departures + tokens, self._burst)
        gained = seconds * self._tps / RECOVERY_SECONDS
        self.rate = min(self.rate + gained, self._tps)

    def cut(self) -> None:
        """Cut the rate by 0.7, once for all throttles within a second."""
        self.fill()
        if self._filled - self._cut >= CUT_EVERY_SECONDS:
            self._cut = self._filled
            self.rate = max(self.rate * CUT, LEAST_TPS)
            self.turns = min(self.turns, 0.0)
            self.departures = min(self.departures, 0.0)


class Gate:
    """Lets one request leave for each token, in the order they came.

    A request that is given up while it waits takes no token.
    """

    def __init__(
        self, bucket: TokenBucket, *, opened: Callable[[], None] = lambda: None
    ) -> None:
        """Take the departures of `bucket`; call `opened` when nobody waits any more."""
        self._bucket = bucket
        self._opened = opened
        self._order = asyncio.Lock()
        self.waiting = 0

    async def depart(self) -> None:
        """Return when the request may be sent, which it must be at once."""
        self._bucket.fill()
        if not self.waiting and self._bucket.departures >= WHOLE:
            self._bucket.departures -= 1
            return
        self.waiting += 1
        try:
            async with self._order:  # it is given in the order it was asked for
                await self._take()
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._opened()

    async def _take(self) -> None:
        bucket = self._bucket
        bucket.fill()
        while bucket.departures < WHOLE:
            seconds = (1 - bucket.departures) / bucket.rate
            await asyncio.sleep(seconds)  # until there is a whole token
            bucket.fill()
        bucket.departures -= 1
