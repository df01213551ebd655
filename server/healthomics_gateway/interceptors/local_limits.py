"""The limits of callers of one process, which shares no counts with others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import LRUCache

from healthomics_gateway.errors.exceptions import limited
from healthomics_gateway.token_bucket import TokenBucket

MAX_KNOWN = 10_000  # callers with a bucket; a forgotten one gets a full bucket again
MIN_BURST = 1.0  # tokens: the burst is a second's calls, but at least one

_T = TypeVar("_T")


class ByCaller(Generic[_T]):
    """A value for each caller; those of the least recently used callers are evicted.

    Identities and hosts are kept apart, so that hosts without identity, of which one
    client may have many, don't evict the bucket of an identity, which would start again
    full.
    """

    def __init__(self) -> None:
        """Begin without callers."""
        self._of_identities: LRUCache[str, _T] = LRUCache(MAX_KNOWN)
        self._of_hosts: LRUCache[str, _T] = LRUCache(MAX_KNOWN)

    def of(self, *, is_identity: bool) -> LRUCache[str, _T]:
        """Return the values of identities, or those of hosts, by their names."""
        return self._of_identities if is_identity else self._of_hosts


class LocalRates:
    """A token bucket of each caller."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without callers."""
        self._clock = clock
        self._buckets = ByCaller[TokenBucket]()

    def take(self, name: str, rate: float, *, is_identity: bool) -> bool:
        """Take a token of a caller; return whether there was one."""
        return self._bucket(name, rate, is_identity=is_identity).take()

    async def ask(self, name: str, rate: float, *, is_identity: bool) -> None:
        """Raise CALLER_RATE_LIMITED, as there is no other place to ask."""
        bucket = self._bucket(name, rate, is_identity=is_identity)
        raise limited(bucket.wait_seconds)

    def _bucket(self, name: str, rate: float, *, is_identity: bool) -> TokenBucket:
        buckets = self._buckets.of(is_identity=is_identity)
        bucket, capacity = buckets.get(name), max(rate, MIN_BURST)
        if bucket is None:
            bucket = buckets[name] = TokenBucket(
                rate=rate, capacity=capacity, clock=self._clock
            )
        if bucket.rate != rate:  # the rules were reloaded
            bucket.resize(rate=rate, capacity=capacity)
        bucket.fill()
        return bucket


class LocalCounts:
    """The number of calls under way of each caller."""

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        """Begin with none; `jitter` returns a random number in [0, 1)."""
        self._numbers: dict[str, int] = {}
        self._jitter = jitter

    def enter(self, name: str, limit: int | None) -> bool:
        """Count a call, unless its caller has `limit`; return whether it is counted."""
        number = self._numbers.get(name, 0)
        if limit is not None and number >= limit:
            return False
        self._numbers[name] = number + 1
        return True

    async def ask(self, name: str, limit: int | None) -> None:  # noqa: ARG002  # the shape of Counts
        """Raise CALLER_RATE_LIMITED, as there is no other place to ask."""
        raise limited(0.5 + self._jitter())

    def leave(self, name: str) -> None:
        """Remove a call from the count."""
        number = self._numbers[name] - 1
        if number:
            self._numbers[name] = number
        else:
            del self._numbers[name]
