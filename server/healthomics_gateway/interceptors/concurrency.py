"""Limits concurrent calls, and shares the places fairly."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

from healthomics_gateway.context import CallContext, Handler, may_be_shared
from healthomics_gateway.errors.exceptions import overloaded
from healthomics_gateway.interceptors.eviction import Evictions


class Admission:
    """Limits concurrent calls, and divides the places fairly when all are taken.

    While a place is free, any call gets it. When all places are taken, each caller has
    an equal share of them. A call of a caller that holds less than its share evicts the
    newest call of the caller that holds most. So one caller may use every place while
    no other caller needs one. A call of a caller that holds its share evicts the
    caller's own call that has waited longest for its request message, if there is one.

    With `max_per_connection` the connections of a caller share its places in the same
    way: callers without identity at one host count as one caller, and may be several
    clients. The connections of a Unix socket can't be distinguished, so they have no
    limit of their own.
    """

    def __init__(
        self,
        *,
        max_in_flight: int,
        max_per_connection: int | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Allow `max_in_flight` calls, and `max_per_connection` of one connection.

        `jitter` returns a random number in [0, 1).
        """
        self._max_in_flight = max_in_flight
        self._max_per_connection = max_per_connection or inf
        self._jitter = jitter
        self._shares = _Shares()
        self._connections: Counter[str] = Counter()
        self._evictions = Evictions()

    @property
    def inside(self) -> int:
        """The number of calls under way."""
        return self._shares.total

    def intercept(self, proceed: Handler) -> Handler:
        """Take a place for each call. Raises GATEWAY_OVERLOADED if it can't get one."""

        async def handle(incoming: Any, call: CallContext) -> bytes:
            task, name, peer = call.task, call.caller.name, call.peer
            is_full = self._connections[peer] >= self._max_per_connection
            if is_full and not may_be_shared(peer):
                raise overloaded(self._jitter())
            if self._shares.total >= self._max_in_flight:
                self._free_place(name, peer)
            self._shares.add(name, call)
            self._connections[peer] += 1
            try:
                with self._evictions.scope(task):
                    return await proceed(incoming, call)
            finally:
                self._shares.remove(name, task)
                self._connections[peer] -= 1
                if not self._connections[peer]:
                    del self._connections[peer]

        return handle

    def _free_place(self, name: str, peer: str) -> None:
        """Evict a call to free its place, or raise GATEWAY_OVERLOADED."""
        share = self._max_in_flight // self._shares.callers_with(name)
        is_below_share = self._shares.held_by(name) < share
        evicted = (
            self._shares.take_newest()
            if is_below_share
            else self._shares.take_silent(name)
        )
        if evicted is None and self._max_per_connection < inf:
            evicted = self._shares.take_from_connection(peer, name)
        if evicted is None:
            raise overloaded(self._jitter())
        self._evictions.evict(evicted, overloaded(self._jitter()))


class _Shares:
    """The calls under way, by caller.

    All methods but `take_from_connection` take constant time.
    """

    def __init__(self) -> None:
        self.total = 0
        # With the connection of each; the oldest call comes first.
        self._calls: dict[str, dict[asyncio.Task[Any], str]] = {}
        # Calls that may still wait for their message; the oldest comes first.
        self._silent: dict[str, dict[asyncio.Task[Any], CallContext]] = {}
        self._by_places: dict[int, dict[str, None]] = {}  # callers by number of places
        self._most = 0  # places that one caller holds

    def callers_with(self, name: str) -> int:
        """Return the number of callers with calls under way, this one included."""
        return len(self._calls) + (name not in self._calls)

    def held_by(self, name: str) -> int:
        """Return the number of places that a caller holds."""
        return len(self._calls.get(name, ()))

    def add(self, name: str, call: CallContext) -> None:
        """Add a call."""
        calls = self._calls.setdefault(name, {})
        calls[call.task] = call.peer
        self._silent.setdefault(name, {})[call.task] = call
        self.total += 1
        self._update(name, len(calls) - 1, len(calls))

    def remove(self, name: str, task: asyncio.Task[Any]) -> None:
        """Remove a call, unless it was removed when it was evicted."""
        calls = self._calls.get(name, {})
        if task not in calls:
            return
        del calls[task]
        self._silent[name].pop(task, None)
        self.total -= 1
        self._update(name, len(calls) + 1, len(calls))
        if not calls:
            del self._calls[name], self._silent[name]

    def take_newest(self) -> asyncio.Task[Any]:
        """Remove and return the newest call of the caller that holds most."""
        name = next(iter(self._by_places[self._most]))
        task = next(reversed(self._calls[name]))
        self.remove(name, task)
        return task

    def take_silent(self, name: str) -> asyncio.Task[Any] | None:
        """Remove and return the caller's oldest call without a request message.

        Return None if there is none.
        """
        silent = self._silent.get(name, {})
        while silent:
            task = next(iter(silent))
            if not silent.pop(task).has_message:
                self.remove(name, task)
                return task
        return None

    def take_from_connection(self, peer: str, name: str) -> asyncio.Task[Any] | None:
        """Remove and return a call of the caller's connection that holds most places.

        It is the newest call. Return None if that connection holds no more places than
        the connection `peer` would hold with one more call.
        """
        calls = self._calls.get(name, {})
        held = Counter(calls.values())
        for most, number in held.most_common(1):
            if number > held[peer] + 1:
                task = next(each for each in reversed(calls) if calls[each] == most)
                self.remove(name, task)
                return task
        return None

    def _update(self, name: str, before: int, after: int) -> None:
        if before:
            del self._by_places[before][name]
            if not self._by_places[before]:
                del self._by_places[before]
        if after:
            self._by_places.setdefault(after, {})[name] = None
        if after > self._most or self._most not in self._by_places:
            self._most = after
