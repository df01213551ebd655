"""The quota of one AWS account that several replicas share through a store."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from healthomics_gateway.runs.gate import Gate, nothing
from healthomics_gateway.runs.reservations import (
    Reservations,
    StaticShare,
)
from healthomics_gateway.runs.shared_rate import USABLE_SECONDS, SharedRate
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import StoreError
from healthomics_gateway.token_bucket import TokenBucket

CHECK_SECONDS = 0.1  # at least so often a waiting quota looks at its replica
MAX_TAKEN = 1024  # tokens of turns whose requests haven't departed


class SharedQuota:
    """A quota whose tokens a store gives out; the methods are those of `Quota`.

    While calls wait, one task reserves a token, waits for its time and passes it on.
    While the replica is detached, tokens come from a bucket of its static share.
    """

    def __init__(
        self,
        replica: Replica,
        name: Callable[[], str],
        *,
        tps: float,
        burst: float,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Share the quota that has the name `name()`, which may change.

        This gateway has so many `workers`. `jitter` draws from [0, 1).
        """
        self._replica = replica
        self._name = name
        self._rate = SharedRate(
            replica, tps=tps, burst=burst, workers=workers, clock=clock
        )
        self._clock = clock
        self._reserved = Reservations(replica, name, self._rate.drawn, clock=clock)
        self._share = StaticShare(replica, self._rate, clock=clock, jitter=jitter)
        self._taken: deque[float] = deque(maxlen=MAX_TAKEN)  # ends of turns' tokens
        # Whatever the store says, this replica sends no more.
        self._departures = TokenBucket(rate=tps, capacity=burst, clock=clock)
        self._gate = Gate(self._take_departure, wait=self._next_departure)
        self._ready: Callable[[], None] = nothing
        self._is_wanted = False  # a token, by a call
        self._arrival: asyncio.Future[None] | None = None  # of one for the gate
        self._work: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None

    @property
    def tps(self) -> float:
        """The tokens a second at most, of those that `rate` is about."""
        return self._rate.most

    @property
    def rate(self) -> float:
        """The tokens a second at the moment, of all replicas or of this gateway."""
        return self._rate.current

    @property
    def tokens(self) -> float:
        """The tokens that turns can take now."""
        if self._replica.is_attached:
            return float(self._reserved.has_token)
        return self._share.filled().tokens

    @property
    def has_token(self) -> bool:
        """Return whether a turn can take a token now."""
        if self._replica.is_attached:
            return self._reserved.has_token
        return self._share.filled().has_token

    @property
    def waiting(self) -> int:
        """The number of requests that wait for another token."""
        return self._gate.waiting

    @property
    def is_full(self) -> bool:
        """Return whether a new quota would have no more tokens."""
        self._departures.fill()
        is_used = self._gate.waiting or self._is_working
        return self._departures.is_full and self._rate.is_full and not is_used

    def on_token(self, ready: Callable[[], None]) -> None:
        """Call `ready` when a token is there, and when no request waits to depart."""
        self._ready = self._gate.opened = ready

    def want(self) -> None:
        """Ask for the next token, unless that is under way."""
        self._is_wanted = True
        self._start()

    def take(self) -> None:
        """Take the token of a turn; its request has to depart in time."""
        if self._reserved.has_token:
            self._taken.append(self._reserved.take())
        else:
            self._share.filled().tokens -= 1
            self._taken.append(self._clock() + USABLE_SECONDS)

    def give_back(self) -> None:
        """Return the token of the last turn, for one that can use it in time."""
        if not self._taken:
            return
        until = self._taken.pop()
        if self._replica.is_attached:
            self._reserved.put_back(until)
        else:
            self._share.filled().tokens += 1

    def wait_seconds(self, turns: float) -> float:
        """Return the estimated seconds until there are tokens for so many turns."""
        missing = turns + self._gate.waiting - self.tokens
        if self._replica.is_attached:
            return self._reserved.wait_seconds(
                missing, rate=self.rate, least=self._rate.least
            )
        return max(0.0, missing / self._share.filled().rate)

    def cut(self) -> None:
        """Lower the rate here and in the store, once for throttles within a second."""
        if self._rate.cut():
            self._reserved.drop()
            share = self._share.filled()
            share.tokens = min(share.tokens, 0.0)
            if not self._cutting or self._cutting.done():
                self._cutting = asyncio.create_task(self._cut())

    async def depart(self) -> None:
        """Wait until a request may be sent; the caller must send it at once."""
        await self._gate.depart()

    async def close(self) -> None:
        """Cancel the tasks."""
        tasks = [each for each in (self._work, self._cutting) if each]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _is_working(self) -> bool:
        return self._work is not None and not self._work.done()

    def _start(self) -> None:
        if not self._is_working:
            self._work = asyncio.create_task(self._provide())

    async def _provide(self) -> None:
        """Provide tokens, one after another, while any are wanted."""
        while self._is_wanted or self._arrival:
            if self.has_token:
                self._pass_on()
            elif not self._replica.is_attached:
                seconds = self._share.filled().wait_seconds
                await asyncio.sleep(min(seconds, CHECK_SECONDS))  # until it has one
            elif left := self._reserved.left_seconds:
                if self._reserved.drop_outdated(self.rate):
                    continue
                await asyncio.sleep(min(left, CHECK_SECONDS))  # until the token's time
            elif self._reserved.is_early:
                await asyncio.sleep(CHECK_SECONDS)  # until all expected have attached
            else:
                await self._reserve()
        self._reserved.forget()

    def _pass_on(self) -> None:
        """Pass a token on: first to a request that waits, else to the next call."""
        if not (arrival := self._arrival):
            self._is_wanted = False
            self._ready()
            return
        self._arrival = None
        if not arrival.done():  # else it was cancelled
            self.take()
            arrival.set_result(None)

    async def _reserve(self) -> None:
        """Reserve the next token of the store."""
        try:
            reservation = await self._reserved.reserve()
        except StoreError:
            if self._replica.is_attached:
                await asyncio.sleep(CHECK_SECONDS)  # the store has just failed
            return
        self._rate.note(reservation.tps)

    def _take_departure(self) -> bool:
        """Take a token for a request that departs now; return whether there is one."""
        now, taken = self._clock(), self._taken
        while taken and taken[0] < now:
            taken.popleft()
        self._departures.fill()
        if not self._departures.has_token:
            return False
        if not taken:
            if not self.has_token:
                return False
            self.take()
        taken.popleft()
        return self._departures.take()

    async def _next_departure(self) -> None:
        """Wait until a request that has to wait may have a token."""
        if not self._departures.has_token:
            await asyncio.sleep(self._departures.wait_seconds)  # for a token
            return
        self._arrival = asyncio.get_running_loop().create_future()
        self._start()
        await self._arrival

    async def _cut(self) -> None:
        name = self._name()
        with suppress(StoreError):
            await self._replica.ask(lambda store: store.cut(name, self._rate.drawn))
