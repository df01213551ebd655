"""The quota of one AWS account: the interface, and the one of a single process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from healthomics_gateway.runs.gate import Gate, nothing
from healthomics_gateway.shared.adaptive_rate import AdaptiveRate
from healthomics_gateway.token_bucket import TokenBucket


class Quota(Protocol):
    """Tokens for the requests to one AWS account, and slower ones after a throttle.

    A call takes a token when it has its turn, and its request departs at once. A
    request that can't, because its connection is slow or it is sent again, waits for
    another token; these requests come before the calls that wait for their turn.
    """

    @property
    def tps(self) -> float:
        """The tokens a second at most."""
        ...

    @property
    def rate(self) -> float:
        """The tokens a second at the moment, of all processes that share them."""
        ...

    @property
    def tokens(self) -> float:
        """The tokens that can be taken now; less than 1 if there is none."""
        ...

    @property
    def has_token(self) -> bool:
        """Return whether a turn can take a token now."""
        ...

    @property
    def waiting(self) -> int:
        """The number of requests that wait for another token."""
        ...

    @property
    def is_full(self) -> bool:
        """Return whether a new quota would have no more tokens."""
        ...

    def on_token(self, ready: Callable[[], None]) -> None:
        """Call `ready` when there is a token that `want` has asked for.

        It is also called when no request waits for another token any more.
        """
        ...

    def want(self) -> None:
        """Ask for the next token: a call waits for its turn."""
        ...

    def take(self) -> None:
        """Take the token of a turn; there must be one."""
        ...

    def give_back(self) -> None:
        """Return the token of a turn that has just been taken and isn't used."""
        ...

    def wait_seconds(self, turns: float) -> float:
        """Return the estimated seconds until there are tokens for so many turns."""
        ...

    def cut(self) -> None:
        """Lower the rate after a throttle, once for all throttles within a second."""
        ...

    async def depart(self) -> None:
        """Wait until a request may be sent; the caller must send it at once."""
        ...

    async def close(self) -> None:
        """End what runs in the background."""
        ...


class LocalQuota:
    """A quota that no other process uses; the methods are those of `Quota`.

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
        self.tps = tps
        self._clock = clock
        self._adaptive = AdaptiveRate()
        self._turns = TokenBucket(rate=tps, capacity=burst, clock=clock)
        self._departures = TokenBucket(rate=tps, capacity=burst, clock=clock)
        self._gate = Gate(self._take_departure, wait=self._next_departure)
        self._ready: Callable[[], None] = nothing
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float:
        """The current rate, in tokens a second."""
        return self._adaptive.at(self._clock(), self.tps)

    @property
    def tokens(self) -> float:
        """The tokens that turns can take."""
        self._fill()
        return self._turns.tokens

    @property
    def has_token(self) -> bool:
        """Return whether a turn can take a token now."""
        self._fill()
        return self._turns.has_token

    @property
    def waiting(self) -> int:
        """The number of requests that wait to depart."""
        return self._gate.waiting

    @property
    def is_full(self) -> bool:
        """Return whether the buckets are full, at the full rate."""
        self._fill()
        is_whole = self._turns.is_full and self._departures.is_full
        return is_whole and self.rate >= self.tps

    def on_token(self, ready: Callable[[], None]) -> None:
        """Call `ready` when a token is there, and when no request waits to depart."""
        self._ready = self._gate.opened = ready

    def want(self) -> None:
        """Arrange to call `ready` when the next token is there."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._turns.wait_seconds, self._on_timer)

    def take(self) -> None:
        """Take the token of a turn."""
        self._turns.tokens -= 1

    def give_back(self) -> None:
        """Return the token of a turn."""
        self._turns.tokens += 1

    def wait_seconds(self, turns: float) -> float:
        """Return the estimated seconds until there are tokens for so many turns."""
        missing = turns + self._gate.waiting - self.tokens
        return max(0.0, missing / self.rate)

    def cut(self) -> None:
        """Multiply the rate by 0.7, once for all throttles within a second."""
        self._fill()
        if self._adaptive.cut(self._clock(), self.tps):
            for bucket in (self._turns, self._departures):
                bucket.rate = self.rate
                bucket.tokens = min(bucket.tokens, 0.0)

    async def depart(self) -> None:
        """Wait until a request may be sent; the caller must send it at once."""
        await self._gate.depart()

    async def close(self) -> None:
        """Cancel the timer."""
        if self._timer:
            self._timer.cancel()

    def _fill(self) -> None:
        """Add the tokens that arrived since the last time, and raise a reduced rate."""
        for bucket in (self._turns, self._departures):
            bucket.fill()
            bucket.rate = self.rate

    def _on_timer(self) -> None:
        self._timer = None
        self._ready()

    def _take_departure(self) -> bool:
        self._fill()
        return self._departures.take()

    async def _next_departure(self) -> None:
        await asyncio.sleep(self._departures.wait_seconds)  # until the next token
