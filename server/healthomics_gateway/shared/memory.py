"""A store in this process, also the one that a supervisor has for its workers."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from healthomics_gateway.shared.adaptive_rate import AdaptiveRate
from healthomics_gateway.shared.memory_entries import Entries
from healthomics_gateway.shared.memory_leases import Leases
from healthomics_gateway.shared.memory_members import Membership
from healthomics_gateway.shared.store import (
    PRESENT_SECONDS,
    SETTLE_SECONDS,
    Claim,
    Deliver,
    Members,
    Permit,
    Rate,
    Reservation,
    Stored,
    StoreError,
)
from healthomics_gateway.token_bucket import WHOLE, TokenBucket

MAX_BUCKETS = 20_000  # of callers; one that is forgotten is full again
MAX_BYTES = 67_108_864  # of all values


@dataclass(slots=True)
class _Quota:
    rate: AdaptiveRate
    bucket: TokenBucket
    asked: Rate | None = None  # by the last reservation


class MemoryStore:
    """The state of a store, and what each method of `Store` does to it."""

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty; if the values have more than `max_bytes`, the oldest go."""
        self._clock = clock
        self._members = Membership()
        self._quotas: dict[str, _Quota] = {}
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)
        self._entries = Entries(max_bytes=max_bytes, clock=clock)
        self._leases = Leases()
        self._subscribers: dict[str, dict[Deliver, None]] = defaultdict(dict)

    def beat(self, replica: str, *, is_attached: bool, known: int) -> Members:
        """Note that a replica lives; see `Store`."""
        now = self._clock()
        self._forget_dead(now)
        members = self._members
        was_known = replica in members
        members.beat(replica, now, is_attached=is_attached, known=known)
        return Members(members.attached(now), members.expected(now), was_known)

    def leave(self, replica: str) -> None:
        """Forget a replica; see `Store`."""
        self._members.leave(replica)
        for name in self._leases.held_by(replica):
            self.release(name, replica=replica)
        for name in list(self._counts):
            self._set_count(name, replica, 0)

    def reserve(self, quota: str, rate: Rate, *, replica: str) -> Reservation:
        """Take the next token of a quota; see `Store`."""
        now = self._clock()
        self._forget_dead(now)
        if replica not in self._members:
            raise StoreError("it doesn't know this replica")
        self._members.beat(replica, now, is_attached=True, known=1)
        expected = self._members.expected(now)
        known = self._quota(quota, rate)
        share = len(self._members.attached(now, PRESENT_SECONDS)) / expected
        whole = known.rate.at(now, rate.tps)
        known.rate.note(now, whole)  # for those that ask for more
        is_other = known.asked not in (None, rate)
        known.asked = rate
        tps = whole * share
        burst = max(1.0, rate.burst * share)
        bucket = known.bucket
        bucket.fill()
        if bucket.tokens < 0:  # the times of the tokens that were reserved don't change
            bucket.tokens *= tps / bucket.rate
        bucket.resize(rate=tps, capacity=burst)
        # Each replica has one token in advance, so far fewer tokens are an error.
        least = 1 - burst - 4 * expected - SETTLE_SECONDS * rate.tps
        bucket.tokens = max(min(bucket.tokens, burst), least) - 1
        return Reservation(max(0.0, -bucket.tokens / tps), tps, is_other)

    def cut(self, quota: str, rate: Rate) -> None:
        """Lower the rate of a quota; see `Store`."""
        known = self._quota(quota, rate)
        if known.rate.cut(self._clock(), rate.tps):
            known.bucket.fill()
            known.bucket.tokens = min(known.bucket.tokens, 0.0)

    def take(self, bucket: str, rate: Rate, *, wanted: int) -> Permit:
        """Take tokens of a caller's bucket; see `Store`."""
        known = self._buckets.get(bucket)
        if known is None:
            known = self._buckets[bucket] = TokenBucket(
                rate=rate.tps, capacity=rate.burst, clock=self._clock
            )
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(bucket)
        known.resize(rate=rate.tps, capacity=rate.burst)
        granted = min(wanted, int(known.tokens + 1 - WHOLE))
        known.tokens -= granted
        return Permit(granted, 0.0 if granted else known.wait_seconds)

    def count(self, name: str, number: int, *, replica: str, limit: int | None) -> bool:
        """Set how many a replica has of something; see `Store`."""
        now = self._clock()
        others = sum(
            each
            for by, each in self._counts.get(name, {}).items()
            if by != replica and self._members.is_alive(by, now)
        )
        if limit is not None and number and others + number > limit:
            return False
        self._set_count(name, replica, number)
        return True

    def read(self, name: str, field: str) -> Stored | None:
        """Return the value of a field; see `Store`."""
        return self._entries.read(name, field)

    def write(
        self,
        name: str,
        field: str,
        value: bytes,
        *,
        age_seconds: float,
        keep_seconds: float,
    ) -> None:
        """Set a field of an entry and publish it; see `Store`."""
        self._entries.write(
            name, field, value, age_seconds=age_seconds, keep_seconds=keep_seconds
        )
        self._publish(name, value)

    def remove(self, name: str) -> None:
        """Remove an entry with all fields; see `Store`."""
        self._entries.remove(name)

    def claim(
        self, name: str, field: str, *, replica: str, period_seconds: float
    ) -> Claim:
        """Take or renew a lease; see `Store`."""
        holder = self._leases.claim(
            name,
            replica=replica,
            period_seconds=period_seconds,
            attached=self._members.attached(self._clock()),
        )
        return Claim(holder, None if holder == replica else self.read(name, field))

    def release(self, name: str, *, replica: str) -> None:
        """Release a lease; see `Store`."""
        if self._leases.release(name, replica=replica):
            self._publish(name, b"")

    def subscribe(self, name: str, deliver: Deliver) -> None:
        """Call `deliver` for each value of an entry from now on."""
        self._subscribers[name][deliver] = None

    def unsubscribe(self, name: str, deliver: Deliver) -> None:
        """Don't call `deliver` for an entry any more."""
        self._subscribers[name].pop(deliver, None)
        if not self._subscribers[name]:
            del self._subscribers[name]

    def _quota(self, quota: str, rate: Rate) -> _Quota:
        known = self._quotas.get(quota)
        if known is None:
            bucket = TokenBucket(rate=rate.tps, capacity=0.0, clock=self._clock)
            bucket.tokens = -SETTLE_SECONDS * rate.tps
            known = self._quotas[quota] = _Quota(AdaptiveRate(), bucket)
        return known

    def _publish(self, name: str, value: bytes) -> None:
        for deliver in tuple(self._subscribers.get(name, ())):
            deliver(name, value)

    def _set_count(self, name: str, replica: str, number: int) -> None:
        counts = self._counts[name]
        counts[replica] = number
        if not number:
            del counts[replica]
        if not counts:
            del self._counts[name]

    def _forget_dead(self, now: float) -> None:
        for replica in self._members.outdated(now):
            self.leave(replica)
