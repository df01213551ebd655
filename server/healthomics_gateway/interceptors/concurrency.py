"""Limits concurrent calls, and times out calls that never send a request message."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

from healthomics_gateway.context import CallContext, Handler, may_be_many
from healthomics_gateway.errors.exceptions import overloaded
from healthomics_gateway.interceptors.eviction import Evictions


class Admission:
    """Limits the calls inside, and shares their places when they are scarce.

    While a place is free anyone gets it. When all are taken, a caller that holds less
    than its share, which is as much as any other caller inside, takes the place of the
    newest call of the caller that holds most. So one caller alone may use every place,
    and can keep no other caller out. A caller that holds its share takes the place of
    its own call that has waited longest for its request message, if there is one.

    With `max_per_connection` the connections of a caller share its places likewise:
    callers without identity at one host are one caller, and may be several clients.
    The connections of a Unix socket can't be told apart, so none of them is bounded.
    """

    def __init__(
        self,
        *,
        max_in_flight: int,
        max_per_connection: int | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Admit `max_in_flight` calls, of one connection `max_per_connection`.

        `jitter` draws from [0, 1).
        """
        self._max_in_flight = max_in_flight
        self._max_per_connection = max_per_connection or inf
        self._jitter = jitter
        self._shares = _Shares()
        self._connections: Counter[str] = Counter()
        self._evictions = Evictions()

    @property
    def inside(self) -> int:
        """The number of calls inside."""
        return self._shares.total

    def intercept(self, proceed: Handler) -> Handler:
        """Count the calls; raise GATEWAY_OVERLOADED in those that get no place."""

        async def handle(incoming: Any, context: CallContext) -> bytes:
            task, name, peer = context.task, context.caller.name, context.peer
            is_full = self._connections[peer] >= self._max_per_connection
            if is_full and not may_be_many(peer):
                raise overloaded(self._jitter())
            if self._shares.total >= self._max_in_flight:
                self._make_room(name, peer)
            self._shares.add(name, context)
            self._connections[peer] += 1
            try:
                return await proceed(incoming, context)
            except asyncio.CancelledError:
                self._evictions.check(task)
                raise
            finally:
                self._evictions.forget(task)
                self._shares.remove(name, task)
                self._connections[peer] -= 1
                if not self._connections[peer]:
                    del self._connections[peer]

        return handle

    def _make_room(self, name: str, peer: str) -> None:
        """Evict a call for one of this caller, or raise GATEWAY_OVERLOADED."""
        share = self._max_in_flight // self._shares.callers_with(name)
        evicted = None
        if self._shares.held_by(name) < share:
            evicted = self._shares.take_newest()
        else:
            evicted = self._shares.take_silent(name)
        if evicted is None and self._max_per_connection < inf:
            evicted = self._shares.take_beside(peer, name)
        if evicted is None:
            raise overloaded(self._jitter())
        self._evictions.evict(evicted, overloaded(self._jitter()))


class _Shares:
    """The calls inside by caller; all but `take_beside` takes constant time."""

    def __init__(self) -> None:
        self.total = 0
        # Each with its connection, the oldest first.
        self._calls: dict[str, dict[asyncio.Task[Any], str]] = {}
        # Those that may still wait for their message, the oldest first.
        self._silent: dict[str, dict[asyncio.Task[Any], CallContext]] = {}
        self._with: dict[int, dict[str, None]] = {}  # callers by how many they hold
        self._most = 0  # that one caller holds

    def callers_with(self, name: str) -> int:
        """Return how many callers are inside once this one is."""
        return len(self._calls) + (name not in self._calls)

    def held_by(self, name: str) -> int:
        """Return how many places a caller holds."""
        return len(self._calls.get(name, ()))

    def add(self, name: str, context: CallContext) -> None:
        """Count a call."""
        calls = self._calls.setdefault(name, {})
        calls[context.task] = context.peer
        self._silent.setdefault(name, {})[context.task] = context
        self.total += 1
        self._move(name, len(calls) - 1, len(calls))

    def remove(self, name: str, task: asyncio.Task[Any]) -> None:
        """Count a call no more; one that was evicted isn't counted any longer."""
        calls = self._calls.get(name, {})
        if task not in calls:
            return
        del calls[task]
        self._silent[name].pop(task, None)
        self.total -= 1
        self._move(name, len(calls) + 1, len(calls))
        if not calls:
            del self._calls[name], self._silent[name]

    def take_newest(self) -> asyncio.Task[Any]:
        """Remove and return the newest call of the caller that holds most."""
        name = next(iter(self._with[self._most]))
        task = next(reversed(self._calls[name]))
        self.remove(name, task)
        return task

    def take_silent(self, name: str) -> asyncio.Task[Any] | None:
        """Remove and return the caller's oldest call whose message hasn't come.

        Return None if there is none.
        """
        silent = self._silent.get(name, {})
        while silent:
            task = next(iter(silent))
            if not silent.pop(task).has_message:
                self.remove(name, task)
                return task
        return None

    def take_beside(self, peer: str, name: str) -> asyncio.Task[Any] | None:
        """Remove and return a call of this caller for one of its connection `peer`.

        It is the newest call of the connection that holds most. Returns None unless
        that one holds more than `peer` would.
        """
        calls = self._calls.get(name, {})
        held = Counter(calls.values())
        for most, number in held.most_common(1):
            if number > held[peer] + 1:
                task = next(each for each in reversed(calls) if calls[each] == most)
                self.remove(name, task)
                return task
        return None

    def _move(self, name: str, before: int, after: int) -> None:
        if before:
            del self._with[before][name]
            if not self._with[before]:
                del self._with[before]
        if after:
            self._with.setdefault(after, {})[name] = None
        if after > self._most or self._most not in self._with:
            self._most = after
