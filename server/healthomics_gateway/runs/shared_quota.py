"""The quota of one AWS account that several replicas share through a store."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from healthomics_gateway.runs.quota import Gate, nothing
from healthomics_gateway.shared.adaptive_rate import AdaptiveRate
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import Rate, Reservation, Store, StoreError
from healthomics_gateway.token_bucket import TokenBucket

USABLE_SECONDS = 0.1  # from a token's time on; then it isn't used any more
CHECK_SECONDS = 0.1  # at least so often a waiting quota looks at its replica
GATHER_SECONDS = 1.2  # after it has attached; until then others may attach too
NEWEST_SHARE = 0.3  # weight of the newest time in the average time of a token
MAX_TAKEN = 1024  # tokens of turns whose requests haven't departed


class QuotaSharing(Protocol):
    """What replicas need to share quotas."""

    @property
    def replica(self) -> Replica:
        """The relation of this gateway to the store."""
        ...

    @property
    def names(self) -> Names:
        """The names of quotas."""
        ...


class _Token(NamedTuple):
    """A token of the store, which may be used from `at` until `until`."""

    at: float
    until: float
    attached_since: float  # the replica was attached all the time since then


def drawn(tps: float, burst: float) -> Rate:
    """Return the rate at which tokens may be drawn to send `tps` + `burst` a second.

    A token may be used for USABLE_SECONDS, so the tokens of a longer time can be used
    within a second.
    """
    capacity = max(1.0, burst - tps * USABLE_SECONDS)
    return Rate(min(tps, (tps + burst - capacity) / (1 + USABLE_SECONDS)), capacity)


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
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Share the quota that has the name `name()`, which may change.

        `jitter` draws from [0, 1).
        """
        self.tps = tps
        self._replica = replica
        self._name = name
        self._rate = drawn(tps, burst)
        self._clock = clock
        self._jitter = jitter
        self._adaptive = AdaptiveRate()
        self._token: _Token | None = None  # reserved, perhaps for a later time
        self._taken: deque[float] = deque(maxlen=MAX_TAKEN)  # ends of turns' tokens
        self._seconds_each = 0.0  # that a token takes, 0 if nothing is known
        self._share = TokenBucket(rate=1.0, capacity=0.0, clock=clock)
        self._detached_at = self._phase = 0.0  # when `_share` began, and what it lacked
        # Whatever the store says, this replica sends no more.
        self._departures = TokenBucket(rate=tps, capacity=burst, clock=clock)
        self._gate = Gate(self._take_departure, token=self._next_departure)
        self._ready: Callable[[], None] = nothing
        self._is_wanted = False  # a token, by a call
        self._arrival: asyncio.Future[None] | None = None  # of one for the gate
        self._work: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None

    @property
    def rate(self) -> float:
        """The tokens a second that all replicas together have at the moment."""
        replica = self._replica
        whole = self._adaptive.at(self._clock(), self._rate.tps)
        if replica.is_attached:
            whole *= len(replica.attached) / replica.replicas
        return whole

    @property
    def tokens(self) -> float:
        """The tokens that turns can take now."""
        if self._replica.is_attached:
            return float(self._usable() is not None)
        return self._own_share().tokens

    @property
    def has_token(self) -> bool:
        """Return whether a turn can take a token now."""
        if self._replica.is_attached:
            return self._usable() is not None
        return self._own_share().has_token

    @property
    def waiting(self) -> int:
        """The number of requests that wait for another token."""
        return self._gate.waiting

    @property
    def is_full(self) -> bool:
        """Return whether a new quota would have no more tokens."""
        self._departures.fill()
        is_whole = self._adaptive.at(self._clock(), self._rate.tps) >= self._rate.tps
        is_used = self._gate.waiting or self._is_working
        return self._departures.is_full and is_whole and not is_used

    def on_token(self, ready: Callable[[], None]) -> None:
        """Call `ready` when a token is there, and when no request waits to depart."""
        self._ready = self._gate.opened = ready

    def want(self) -> None:
        """Ask for the next token, unless that is under way."""
        self._is_wanted = True
        self._start()

    def take(self) -> None:
        """Take the token of a turn; its request has to depart in time."""
        if token := self._usable():
            self._token = None
            self._taken.append(token.until)
        else:
            self._share.tokens -= 1
            self._taken.append(self._clock() + USABLE_SECONDS)

    def give_back(self) -> None:
        """Return the token of the last turn, for one that can use it in time."""
        if not self._taken:
            return
        until = self._taken.pop()
        if not self._replica.is_attached:
            self._share.tokens += 1
        elif not self._token:
            self._token = _Token(self._clock(), until, self._replica.detached_at)

    def wait_seconds(self, turns: float) -> float:
        """Return the estimated seconds until there are tokens for so many turns.

        It is 0 while nothing is known, or the store has tokens that wait for nobody.
        """
        missing = turns + self._gate.waiting - self.tokens
        if not self._replica.is_attached:
            return max(0.0, missing / self._share.rate)
        if missing <= 0 or not self._seconds_each:
            return 0.0
        whole = self._adaptive.at(self._clock(), self._rate.tps)
        # Turns go round among the replicas. So what is measured while many calls arrive
        # at once, or by a process that starts, is never the time of all turns.
        each = min(
            max(self._seconds_each, 1 / self.rate), self._replica.replicas / whole
        )
        first = self._token.at - self._clock() if self._token else each
        return max(0.0, first) + (missing - 1) * each

    def cut(self) -> None:
        """Lower the rate here and in the store, once for throttles within a second."""
        if self._adaptive.cut(self._clock(), self._rate.tps):
            self._token = None
            self._share.tokens = min(self._share.tokens, 0.0)
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
                await asyncio.sleep(min(self._share.wait_seconds, CHECK_SECONDS))
            elif token := self._reserved():
                left = token.at - self._clock()
                await asyncio.sleep(min(left, CHECK_SECONDS))
            elif self._is_early:
                await asyncio.sleep(CHECK_SECONDS)
            else:
                await self._reserve()
        self._seconds_each = 0.0

    @property
    def _is_early(self) -> bool:
        """Return whether more replicas are likely to attach within a moment.

        The store gives few tokens while few replicas are attached: those that attach
        first after an outage would reserve tokens of a time that is far ahead.
        """
        replica = self._replica
        is_alone = len(replica.attached) < replica.replicas
        return is_alone and self._clock() < replica.attached_at + GATHER_SECONDS

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
        replica, asked_at = self._replica, self._clock()
        since = replica.detached_at
        try:
            reservation = await replica.ask(self._ask)
        except StoreError:
            if replica.is_attached:
                await asyncio.sleep(CHECK_SECONDS)
            return
        now, wait_seconds = self._clock(), max(reservation.wait_seconds, 0.0)
        whole = reservation.tps * replica.replicas / max(len(replica.attached), 1)
        self._adaptive.note(now, whole)
        at = now + wait_seconds
        self._token = _Token(at, asked_at + wait_seconds + USABLE_SECONDS, since)
        self._note_seconds(at - asked_at if wait_seconds else 0.0)

    async def _ask(self, store: Store) -> Reservation:
        return await store.reserve(self._name(), self._rate, replica=self._replica.id)

    def _note_seconds(self, seconds: float) -> None:
        """Note the time from asking for a token until it may be used."""
        known = self._seconds_each
        weight = NEWEST_SHARE if known and seconds else 1.0
        self._seconds_each += weight * (seconds - known)

    def _reserved(self) -> _Token | None:
        """Return the token that is reserved, unless it mustn't be used any more."""
        token, replica = self._token, self._replica
        if token and (
            token.until < self._clock()
            or token.attached_since != replica.detached_at
            or not replica.is_attached
        ):
            token = self._token = None
        return token

    def _usable(self) -> _Token | None:
        """Return the token that is reserved, if it may be used now."""
        token = self._reserved()
        return token if token and token.at <= self._clock() else None

    def _own_share(self) -> TokenBucket:
        """Return the bucket for while the replica is detached, brought up to date.

        It has no tokens at first, and gets the first ones when all replicas have
        noticed whether the store is lost.
        """
        replica, bucket, now = self._replica, self._share, self._clock()
        rate = self._adaptive.at(now, self._rate.tps)
        share = replica.share(Rate(rate, self._rate.burst))
        bucket.resize(rate=share.tps, capacity=share.burst)
        if self._detached_at != replica.detached_at:
            self._detached_at, self._phase = replica.detached_at, self._jitter()
            bucket.tokens = -self._phase  # not all replicas' tokens at once
        missing = (replica.settled_at - now) * share.tps
        if missing > 0:
            bucket.tokens = -missing - self._phase
        return bucket

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
            await asyncio.sleep(self._departures.wait_seconds)
            return
        self._arrival = asyncio.get_running_loop().create_future()
        self._start()
        await self._arrival

    async def _cut(self) -> None:
        name = self._name()
        with suppress(StoreError):
            await self._replica.ask(lambda store: store.cut(name, self._rate))
