"""Limits each caller's calls a second, concurrent calls, and open watches."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from cachetools import LRUCache

from healthomics_gateway.auth.policy import ANONYMOUS, Access, Rule
from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import limited
from healthomics_gateway.token_bucket import TokenBucket

MAX_KNOWN = 10_000  # callers with a bucket; a forgotten one gets a full bucket again


class CallerLimits:
    """Counts each caller's calls, and rejects those beyond its limits.

    A caller without identity is counted by its host.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Start with no calls; `jitter` returns a random number in [0, 1)."""
        self._clock = clock
        self._jitter = jitter
        # Two caches, so that hosts without identity, of which one client may have many,
        # don't evict the bucket of an identity, which would start again full.
        self._of_identities: LRUCache[str, TokenBucket] = LRUCache(MAX_KNOWN)
        self._of_hosts: LRUCache[str, TokenBucket] = LRUCache(MAX_KNOWN)
        self._calls: Counter[str] = Counter()
        self._watches: Counter[str] = Counter()

    def calls(self, proceed: Handler) -> Handler:
        """Limit each caller to its `calls_per_second` and `concurrent_calls`."""
        return self._limit(proceed, self._calls, lambda rule: rule.concurrent_calls)

    def watches(self, proceed: Handler) -> Handler:
        """Limit each caller to its `calls_per_second` and `watches`."""
        return self._limit(proceed, self._watches, lambda rule: rule.watches)

    def _limit(
        self,
        proceed: Handler,
        open_calls: Counter[str],
        limit_of: Callable[[Rule], int | None],
    ) -> Handler:
        async def handle(incoming: Any, call: CallContext) -> bytes:
            name, access = call.caller.name, call.access
            rule = access.rule
            limit = limit_of(rule)
            if limit is not None and open_calls[name] >= limit:
                raise limited(0.5 + self._jitter())
            if rule.calls_per_second is not None:
                self._take(name, access, rule.calls_per_second)
            open_calls[name] += 1
            try:
                return await proceed(incoming, call)
            finally:
                open_calls[name] -= 1
                if not open_calls[name]:
                    del open_calls[name]

        return handle

    def _take(self, name: str, access: Access, rate: float) -> None:
        is_known = access.identity != ANONYMOUS
        buckets = self._of_identities if is_known else self._of_hosts
        bucket, capacity = buckets.get(name), max(rate, 1.0)
        if bucket is None:
            bucket = buckets[name] = TokenBucket(
                rate=rate, capacity=capacity, clock=self._clock
            )
        if bucket.rate != rate:  # the rules were reloaded
            bucket.resize(rate=rate, capacity=capacity)
        bucket.fill()
        if not bucket.take():
            raise limited(bucket.wait_seconds)
