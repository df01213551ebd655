"""Callers' calls a second, limited for all replicas together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import limited
from healthomics_gateway.interceptors.local_limits import MIN_BURST, ByCaller
from healthomics_gateway.shared.store import Rate, StoreError
from healthomics_gateway.token_bucket import TokenBucket

if TYPE_CHECKING:
    from healthomics_gateway.shared.names import Names
    from healthomics_gateway.shared.replica import Replica

KEEP_SECONDS = 1.0  # after its request, until a token that wasn't used expires
BATCH_SECONDS = 0.05  # tokens for so long are taken at once
MAX_BATCH = 100
MAX_EMPTY_SECONDS = 1.0  # that the store isn't asked after it had no token
MAX_REQUESTS = 3  # that a call waits for: one under way, and two that count it
_LEAST_SECONDS = 0.001  # between two requests, for the rate of use


class SharedRates:
    """A token bucket of each caller in the store, of which replicas take batches.

    A caller's calls that come together share a request. While the replica is detached,
    each caller has the replica's share of its rate.
    """

    def __init__(
        self,
        replica: Replica,
        names: Names,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without callers."""
        self._replica = replica
        self._names = names
        self._clock = clock
        self._callers = ByCaller[_Caller]()

    def take(self, name: str, rate: float, *, is_identity: bool) -> bool:
        """Take a token that is at hand; return whether there was one."""
        return self._caller(name, rate, is_identity=is_identity).take_at_hand()

    async def ask(self, name: str, rate: float, *, is_identity: bool) -> None:
        """Take a token from the store; raises CALLER_RATE_LIMITED.

        If the store fails, take one of the replica's share.
        """
        caller = self._caller(name, rate, is_identity=is_identity)
        for _ in range(MAX_REQUESTS):
            empty_seconds = caller.empty_until - self._clock()
            if self._replica.is_attached and empty_seconds > 0:
                raise limited(empty_seconds)
            is_answered = self._replica.is_attached and await self._request(caller)
            if caller.take_at_hand():
                return
            if not is_answered:
                if self._take_own(caller):
                    return
                raise limited(caller.own.wait_seconds)
        raise limited(1 / rate)  # other calls have used all the tokens

    def _caller(self, name: str, rate: float, *, is_identity: bool) -> _Caller:
        callers = self._callers.of(is_identity=is_identity)
        caller = callers.get(name)
        if caller is None:
            kind = "calls" if is_identity else "calls of a host"
            stored = self._names.caller(kind, name)
            own = self._own(rate)
            bucket = TokenBucket(rate=own.tps, capacity=own.burst, clock=self._clock)
            caller = callers[name] = _Caller(stored, rate, bucket, self._clock)
        if caller.rate != rate:  # the rules were reloaded
            caller.rate, caller.empty_until = rate, -inf
        return caller

    def _own(self, rate: float) -> Rate:
        """Return this replica's share of a rate, for while it is detached."""
        tps = rate / self._replica.replicas
        return Rate(tps, max(tps, MIN_BURST))

    def _take_own(self, caller: _Caller) -> bool:
        caller.use_own(self._own(caller.rate), 0)
        return caller.own.take()

    async def _request(self, caller: _Caller) -> bool:
        """Await the request that is under way, or begin one.

        Return False if the store hasn't answered it.
        """
        if caller.request is None:
            caller.request = asyncio.create_task(self._take_batch(caller))
        caller.waiting += 1
        try:
            return await asyncio.shield(caller.request)
        finally:
            caller.waiting -= 1

    async def _take_batch(self, caller: _Caller) -> bool:
        """Take tokens from the store; it begins when the calls that come now wait."""
        wanted, rate, now = caller.wanted, self._rate_of(caller), self._clock()
        try:
            permit = await self._replica.ask(
                lambda store: store.take(caller.name, rate, wanted=wanted)
            )
        except StoreError:
            return False
        finally:
            caller.request = None
        granted = max(min(permit.granted, wanted), 0)  # whatever the store says
        caller.add(granted, permit.wait_seconds, asked_at=now)
        caller.use_own(self._own(caller.rate), granted)
        return True

    def _rate_of(self, caller: _Caller) -> Rate:
        """Return what the attached replicas may use; the others have their shares."""
        attached = max(len(self._replica.attached), 1)
        share = attached / max(attached, self._replica.replicas)
        burst = max(caller.rate, MIN_BURST) * share
        return Rate(caller.rate * share, max(burst, MIN_BURST))


class _Caller:
    """One caller's tokens at this replica."""

    __slots__ = (
        *("_clock", "_granted", "_number", "_since", "_until"),
        *("empty_until", "name", "own", "rate", "request", "waiting"),
    )

    def __init__(
        self, name: str, rate: float, own: TokenBucket, clock: Callable[[], float]
    ) -> None:
        self.name = name  # of its bucket in the store
        self.rate = rate
        self.own = own  # for while the replica is detached
        self.request: asyncio.Task[bool] | None = None  # that is under way
        self.waiting = 0  # calls that wait for the request
        self.empty_until = -inf  # the store had no token, and has none until then
        self._clock = clock
        self._number = self._granted = 0  # tokens at hand, of so many
        self._since = self._until = -inf  # when they were taken, and when they expire

    def take_at_hand(self) -> bool:
        """Take a token that hasn't expired; return whether there was one."""
        if not self._number or self._until <= self._clock():
            return False
        self._number -= 1
        return True

    @property
    def wanted(self) -> int:
        """The tokens to take: for all calls that wait, or for BATCH_SECONDS.

        Not more than this replica uses in that time: the others may need them.
        """
        seconds = max(self._clock() - self._since, _LEAST_SECONDS)
        used = (self._granted - self._number) / seconds * BATCH_SECONDS
        most = min(self.rate * BATCH_SECONDS, MAX_BATCH)
        return max(self.waiting, int(min(used, most)), 1)

    def add(self, granted: int, wait_seconds: float, *, asked_at: float) -> None:
        """Set the tokens at hand; if there are none, the store has one in a while."""
        self._number = self._granted = granted
        self._since, self._until = asked_at, asked_at + KEEP_SECONDS
        if not granted:
            self.empty_until = self._clock() + min(wait_seconds, MAX_EMPTY_SECONDS)

    def use_own(self, share: Rate, number: int) -> None:
        """Fill the bucket of the replica's own share, and use tokens that it has.

        The calls that the store permits use these too, so that a caller doesn't get a
        full bucket when the replica detaches.
        """
        self.own.resize(rate=share.tps, capacity=share.burst)
        self.own.tokens = max(self.own.tokens - number, 0.0)
