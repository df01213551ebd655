"""Callers' open watches, limited for all replicas together."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from healthomics_gateway.errors.exceptions import limited
from healthomics_gateway.shared.store import StoreError

if TYPE_CHECKING:
    from healthomics_gateway.shared.names import Names
    from healthomics_gateway.shared.replica import Replica

RETRY_SECONDS = 1.0  # after which a number that a full store hasn't taken is sent again
MAX_CALLERS = 100_000  # beyond these, the end of a last watch isn't sent to the store
_UNKNOWN = -1  # what the store has after a command has failed


class SharedCounts:
    """The number of each caller's watches here, which the store adds to the others'.

    The number is sent to the store before a watch begins, and in the background when
    one has ended. While the replica is detached, a caller may begin a watch if it has
    less than the replica's share of its limit here.
    """

    def __init__(
        self,
        replica: Replica,
        names: Names,
        *,
        max_callers: int = MAX_CALLERS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Begin with none; `jitter` returns a random number in [0, 1)."""
        self._max_callers = max_callers
        self._replica = replica
        self._names = names
        self._jitter = jitter
        self._callers: dict[str, _Caller] = {}
        self._unsent: dict[str, _Caller] = {}  # whose numbers the store doesn't have
        self._sending: asyncio.Task[None] | None = None
        replica.on_change(self._send_all)

    def enter(self, name: str, limit: int | None) -> bool:
        """Count a watch without a limit; return False if it has one."""
        if limit is not None:
            return False
        self._caller(name).number += 1
        return True

    async def ask(self, name: str, limit: int | None) -> None:
        """Count a watch, or raise CALLER_RATE_LIMITED if its caller has `limit`.

        Watches that come together share a request to the store, if all may begin.
        """
        caller = self._caller(name)
        caller.limit = limit
        entry = asyncio.get_running_loop().create_future()
        caller.entries.append(entry)
        if caller.admitting is None:
            caller.admitting = asyncio.create_task(self._admit(caller))
        try:
            is_admitted = await entry
        except asyncio.CancelledError:
            if not entry.cancelled() and entry.result():
                self.leave(name)
            raise
        if not is_admitted:
            raise limited(0.5 + self._jitter())

    def leave(self, name: str) -> None:
        """Remove a watch from the count."""
        caller = self._callers[name]
        caller.number -= 1
        self._note(caller)

    def _caller(self, name: str) -> _Caller:
        caller = self._callers.get(name)
        if caller is None:
            stored = self._names.caller("watches", name)
            caller = self._callers[name] = _Caller(name, stored)
        return caller

    async def _admit(self, caller: _Caller) -> None:
        """Decide about all watches that wait, as many at once as possible."""
        async with caller.lock:
            try:
                await self._admit_most(caller)
            finally:
                caller.refuse()
                caller.admitting = None
                self._note(caller)

    async def _admit_most(self, caller: _Caller) -> None:
        """Let as many watches begin as the limit allows."""
        wanted = len(caller.entries)
        while caller.entries and wanted:
            wanted = min(wanted, len(caller.entries))
            limit, number = caller.limit, caller.number + wanted
            is_possible = await self._send(caller, number, limit=limit)
            if is_possible is None:
                caller.admit_share(self._replica.replicas)
                return
            if is_possible:
                caller.admit(wanted)
            else:
                wanted //= 2

    async def _send(
        self, caller: _Caller, number: int, *, limit: int | None
    ) -> bool | None:
        """Set a number in the store; return whether that was possible.

        Return None if the store fails.
        """
        if not self._replica.is_attached:
            return None
        try:
            is_possible = await self._replica.ask(
                lambda store: store.count(
                    caller.stored, number, replica=self._replica.id, limit=limit
                )
            )
        except StoreError:
            caller.sent = _UNKNOWN
            return None
        if is_possible:
            caller.sent = number
        return is_possible

    def _note(self, caller: _Caller) -> None:
        """Let a number that has changed be sent; forget a caller that has none."""
        name, is_sent = caller.name, caller.is_sent
        is_over = not caller.number and caller.admitting is None
        if is_over and (is_sent or len(self._callers) > self._max_callers):
            if self._callers.get(name) is caller:
                del self._callers[name]
        elif not is_sent:
            self._unsent[name] = caller
            if self._sending is None and self._replica.is_attached:
                self._sending = asyncio.create_task(self._send_unsent())

    def _send_all(self) -> None:
        """Send all numbers again, if the store is there: it may have lost them."""
        if self._replica.is_attached:
            for caller in tuple(self._callers.values()):
                caller.sent = _UNKNOWN
                self._note(caller)

    async def _send_unsent(self) -> None:
        """Send numbers, one after another, while the store is there."""
        try:
            while self._unsent and self._replica.is_attached:
                await self._send_one(self._unsent.pop(next(iter(self._unsent))))
        finally:
            self._sending = None

    async def _send_one(self, caller: _Caller) -> None:
        async with caller.lock:
            if not caller.is_sent:
                await self._send(caller, caller.number, limit=None)
        if caller.sent == _UNKNOWN and self._replica.is_attached:
            await asyncio.sleep(RETRY_SECONDS)  # the store is full
        self._note(caller)


class _Caller:
    """One caller's watches at this replica."""

    __slots__ = (
        *("admitting", "entries", "limit", "lock", "name", "number", "sent", "stored"),
    )

    def __init__(self, name: str, stored: str) -> None:
        self.name = name
        self.stored = stored  # the name in the store
        self.number = 0
        self.sent = 0  # the number that the store has, or _UNKNOWN
        self.limit: int | None = None  # of the newest watch that has one
        self.entries: deque[asyncio.Future[bool]] = deque()
        self.lock = asyncio.Lock()  # so that the store gets numbers in their order
        self.admitting: asyncio.Task[None] | None = None

    @property
    def is_sent(self) -> bool:
        """Return whether the store has the right number, or needs none."""
        return self.limit is None or self.sent == self.number

    def admit(self, number: int) -> None:
        """Let the first watches begin that wait."""
        for _ in range(number):
            entry = self.entries.popleft()
            if not entry.done():  # else its call was cancelled
                self.number += 1
                entry.set_result(True)

    def admit_share(self, replicas: int) -> None:
        """Let those begin that the share of one replica allows."""
        most = max((self.limit or 0) // replicas, 1)
        self.admit(min(max(most - self.number, 0), len(self.entries)))

    def refuse(self) -> None:
        """Refuse all watches that wait."""
        while self.entries:
            entry = self.entries.popleft()
            if not entry.done():
                entry.set_result(False)
