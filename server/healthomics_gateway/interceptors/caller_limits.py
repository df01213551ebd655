"""Limits each caller's calls a second, concurrent calls, and open watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from healthomics_gateway.auth.policy import ANONYMOUS, Rule
from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.interceptors.local_limits import LocalCounts, LocalRates


class Rates(Protocol):
    """A token bucket for each caller."""

    def take(self, name: str, rate: float, *, is_identity: bool) -> bool:
        """Take a token that is at hand; return whether there was one."""
        ...

    async def ask(self, name: str, rate: float, *, is_identity: bool) -> None:
        """Take a token when none is at hand; raises CALLER_RATE_LIMITED."""
        ...


class Counts(Protocol):
    """The number of calls under way of each caller."""

    def enter(self, name: str, limit: int | None) -> bool:
        """Count a call if that may be decided at once; return whether it is counted."""
        ...

    async def ask(self, name: str, limit: int | None) -> None:
        """Count a call that `enter` hasn't counted; raises CALLER_RATE_LIMITED."""
        ...

    def leave(self, name: str) -> None:
        """Remove a call from the count."""
        ...


class CallerLimits:
    """Counts each caller's calls, and rejects those beyond its limits.

    A caller without identity is counted by its host.
    """

    def __init__(
        self,
        *,
        rates: Rates | None = None,
        calls: Counts | None = None,
        watches: Counts | None = None,
    ) -> None:
        """Start with no calls; by default nothing is shared with other replicas."""
        self._rates = rates or LocalRates()
        self._calls = calls or LocalCounts()
        self._watches = watches or LocalCounts()

    def calls(self, proceed: Handler) -> Handler:
        """Limit each caller to its `calls_per_second` and `concurrent_calls`."""
        return self._limit(proceed, self._calls, lambda rule: rule.concurrent_calls)

    def watches(self, proceed: Handler) -> Handler:
        """Limit each caller to its `calls_per_second` and `watches`."""
        return self._limit(proceed, self._watches, lambda rule: rule.watches)

    def _limit(
        self, proceed: Handler, counts: Counts, limit_of: Callable[[Rule], int | None]
    ) -> Handler:
        rates = self._rates

        async def handle(incoming: Any, call: CallContext) -> bytes:
            name, access = call.caller.name, call.access
            limit, rate = limit_of(access.rule), access.rule.calls_per_second
            if not counts.enter(name, limit):
                await counts.ask(name, limit)
            try:
                if rate is not None:
                    is_known = access.identity != ANONYMOUS
                    if not rates.take(name, rate, is_identity=is_known):
                        await rates.ask(name, rate, is_identity=is_known)
                return await proceed(incoming, call)
            finally:
                counts.leave(name)

        return handle
