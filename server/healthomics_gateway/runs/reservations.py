"""A replica's tokens of a shared quota: reserved ones, or those of its static share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import structlog

from healthomics_gateway.runs.shared_rate import USABLE_SECONDS, SharedRate
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import Rate, Reservation, Store
from healthomics_gateway.token_bucket import TokenBucket

GATHER_SECONDS = 1.2  # after it has attached; until then others may attach too
FAR_SECONDS = 1.0  # a token that is less ahead is worth waiting for
DIFFER = "replicas have different quota.tps or quota.burst: set the same at all of them"
NEWEST_SHARE = 0.3  # weight of the newest time in the average time of a token

_log = structlog.get_logger("shared")


class _Token(NamedTuple):
    """A token of the store, which may be used from `at` until `until`."""

    at: float
    until: float
    attached_since: float  # the replica was attached all the time since then
    tps: float  # at which the replicas together got tokens when it was reserved


class Reservations:
    """The token that a replica has reserved, at most one."""

    def __init__(
        self,
        replica: Replica,
        name: Callable[[], str],
        rate: Rate,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reserve tokens of the quota that has the name `name()`, which may change."""
        self._replica = replica
        self._name = name
        self._rate = rate
        self._clock = clock
        self._token: _Token | None = None  # perhaps for a later time
        self._seconds_each = 0.0  # that a token takes, 0 if nothing is known
        self._has_asked = False

    @property
    def is_early(self) -> bool:
        """Return whether more replicas are likely to attach within a moment.

        The store gives few tokens while few replicas are attached: those that attach
        first after an outage would reserve tokens of a time that is far ahead. If the
        store is a new one, others may also still use tokens of the one before.
        """
        replica = self._replica
        is_alone = len(replica.attached) < replica.replicas
        return is_alone and self._clock() < replica.attached_at + GATHER_SECONDS

    @property
    def left_seconds(self) -> float | None:
        """The seconds until the token may be used; None if there is none.

        A token mustn't be used any more if it is too late, or if the replica was
        detached meanwhile.
        """
        token, replica, now = self._token, self._replica, self._clock()
        if not token or token.until < now or not replica.is_attached:
            return None
        if token.attached_since != replica.detached_at:
            return None
        return max(0.0, token.at - now)

    @property
    def has_token(self) -> bool:
        """Return whether there is a token that may be used now."""
        return self.left_seconds == 0.0

    async def reserve(self) -> Reservation:
        """Reserve the store's next token; raises StoreError."""
        asked_at, since = self._clock(), self._replica.detached_at
        reservation = await self._replica.ask(self._ask)
        if reservation.is_other and self._has_asked:
            self._warn()
        self._has_asked = True  # before, it may be the rate of a fleet that has ended
        wait_seconds = max(reservation.wait_seconds, 0.0)
        at = self._clock() + wait_seconds
        until = asked_at + wait_seconds + USABLE_SECONDS
        self._token = _Token(at, until, since, reservation.tps)
        self._note_seconds(at - asked_at if wait_seconds else 0.0)
        return reservation

    def take(self) -> float:
        """Take the token, if there is one; return the end of its time, or 0."""
        token, self._token = self._token, None
        return token.until if token else 0.0

    def put_back(self, until: float) -> None:
        """Put a token back that was taken, unless there is another one."""
        if self.left_seconds is None:
            now = self._clock()
            self._token = _Token(now, until, self._replica.detached_at, inf)

    def drop(self) -> None:
        """Drop the token, if there is one."""
        self._token = None

    def drop_outdated(self, rate: float) -> bool:
        """Drop a token that is far ahead because the rate was far lower than `rate`.

        Replicas that have died, or that somebody has forged, keep a share for a while;
        a token of that time may be minutes ahead. Return whether it was dropped.
        """
        token, now = self._token, self._clock()
        if token is None or token.at <= now + FAR_SECONDS or rate <= 2 * token.tps:
            return False
        self.drop()
        return True

    def forget(self) -> None:
        """Forget how long tokens take, as no more are wanted."""
        self._seconds_each = 0.0

    def wait_seconds(self, number: float, *, rate: float, least: float) -> float:
        """Return the estimated seconds until so many more tokens were there.

        It is 0 while nothing is known, or the store has tokens that wait for nobody.
        `rate` is that of all replicas, and `least` the part that each one has at least:
        turns go round. What is measured while many calls arrive at once, or by a
        process that starts, is never the time of all turns.
        """
        if number <= 0 or not self._seconds_each:
            return 0.0
        each = min(max(self._seconds_each, 1 / rate), 1 / least)
        left = self.left_seconds
        return (each if left is None else left) + (number - 1) * each

    async def _ask(self, store: Store) -> Reservation:
        return await store.reserve(self._name(), self._rate, replica=self._replica.id)

    def _warn(self) -> None:
        if not self._replica.quotas_differ:
            self._replica.quotas_differ = True
            _log.warning("quotas_differ", why=DIFFER)

    def _note_seconds(self, seconds: float) -> None:
        """Note the time from asking for a token until it may be used."""
        known = self._seconds_each
        weight = NEWEST_SHARE if known and seconds else 1.0
        self._seconds_each += weight * (seconds - known)


class StaticShare:
    """The bucket that a replica uses while it is detached."""

    def __init__(
        self,
        replica: Replica,
        rate: SharedRate,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Begin without tokens; `jitter` draws from [0, 1)."""
        self._replica = replica
        self._rate = rate
        self._clock = clock
        self._jitter = jitter
        self._bucket = TokenBucket(rate=rate.drawn.tps, capacity=0.0, clock=clock)
        self._detached_at = self._phase = 0.0  # when it began, and what it lacked then

    def filled(self) -> TokenBucket:
        """Return the bucket, brought up to date.

        It has no tokens at first, and gets the first ones when all replicas have
        noticed whether the store is lost.
        """
        replica, bucket, now = self._replica, self._bucket, self._clock()
        share = self._rate.share
        bucket.resize(rate=share.tps, capacity=share.burst)
        if self._detached_at != replica.detached_at:
            self._detached_at, self._phase = replica.detached_at, self._jitter()
            bucket.tokens = -self._phase  # not all replicas' tokens at once
        missing = (replica.settled_at - now) * share.tps
        if missing > 0:
            bucket.tokens = -missing - self._phase
        return bucket
