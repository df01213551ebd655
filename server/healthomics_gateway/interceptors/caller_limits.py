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

MAX_KNOWN = 10_000  # callers whose calls are counted; one who comes back begins anew


class CallerLimits:
    """Counts each caller's calls, and refuses those that are beyond its limits.

    A caller without identity is counted by its host.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Begin with nobody inside; `jitter` draws from [0, 1)."""
        self._clock = clock
        self._jitter = jitter
        # Apart, so that hosts without identity, of which a client may have many, don't
        # push out an identity's bucket: it would begin anew, and full.
        self._of_identities: LRUCache[str, TokenBucket] = LRUCache(MAX_KNOWN)
        self._of_hosts: LRUCache[str, TokenBucket] = LRUCache(MAX_KNOWN)
        self._calls: Counter[str] = Counter()
        self._watches: Counter[str] = Counter()

    def calls(self, proceed: Handler) -> Handler:
        """Hold each caller to its `calls_per_second` and `concurrent_calls`."""
        return self._stage(proceed, self._calls, lambda rule: rule.concurrent_calls)

    def watches(self, proceed: Handler) -> Handler:
        """Hold each caller to its `calls_per_second` and `watches`."""
        return self._stage(proceed, self._watches, lambda rule: rule.watches)

    def _stage(
        self,
        proceed: Handler,
        inside: Counter[str],
        most_of: Callable[[Rule], int | None],
    ) -> Handler:
        async def handle(incoming: Any, context: CallContext) -> bytes:
            name, allowed = context.caller.name, context.access
            rule = allowed.rule
            most = most_of(rule)
            if most is not None and inside[name] >= most:
                raise limited(0.5 + self._jitter())
            if rule.calls_per_second is not None:
                self._take(name, allowed, rule.calls_per_second)
            inside[name] += 1
            try:
                return await proceed(incoming, context)
            finally:
                inside[name] -= 1
                if not inside[name]:
                    del inside[name]

        return handle

    def _take(self, name: str, allowed: Access, rate: float) -> None:
        is_known = allowed.identity != ANONYMOUS
        buckets = self._of_identities if is_known else self._of_hosts
        bucket = buckets.get(name)
        if bucket is None:
            bucket = buckets[name] = TokenBucket(
                rate=rate, capacity=max(rate, 1.0), clock=self._clock
            )
        bucket.fill()
        if not bucket.has_token:
            raise limited(bucket.wait_seconds)
        bucket.tokens -= 1
