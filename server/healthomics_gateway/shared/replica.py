"""One replica's relation to the store: attached to it, or detached and on its own."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import TypeVar

import structlog

from healthomics_gateway.shared.pace import MIN_PROBE_SECONDS, Pace
from healthomics_gateway.shared.store import (
    SETTLE_SECONDS,
    Members,
    Store,
    StoreError,
    StoreFullError,
)
from healthomics_gateway.shared.subscriptions import Subscriptions

COMMAND_SECONDS = 0.05  # that anything waits for the store
TICKS = 5  # that they are counted in; a blocked event loop makes no ticks
FULL_SECONDS = 300.0  # that a store counts as full after it has refused a value

_T = TypeVar("_T")
_log = structlog.get_logger("shared")


class Replica:
    """A replica, the store that it shares with others, and its share without it.

    It is attached while the store answers in time. Else it is detached, until two beats
    in a row have been answered in time: the first says that it is detached.
    """

    def __init__(
        self,
        store: Store,
        *,
        replicas: int,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin detached, as one of `replicas`; `jitter` draws from [0, 1)."""
        self.id = secrets.token_hex(8)
        self.is_attached = False
        self.replicas = replicas  # as many are expected, this one included
        self.attached: frozenset[str] = frozenset()  # ids, as of the last beat
        self.fault = "it isn't reached yet"  # empty while attached
        self.full = ""  # why the store takes no more values; empty if it does
        self.errors = 0  # commands that have failed
        self.quotas_differ = False  # another has other settings of a quota
        self._store = store
        self._pace = Pace(jitter)
        self._clock = clock
        self.attached_at = self.detached_at = clock()  # the last time
        self._full_until = -inf
        self._claimed_at = -inf  # attaching, which has failed and isn't taken back
        self._detached = asyncio.Event()
        self._has_left = False
        self._is_forgotten = False  # by the store, since the last beat
        self._is_reported = False  # that it attaches, or doesn't after a start
        self._changed: list[Callable[[], None]] = []
        self._subscriptions = Subscriptions(self.ask)
        store.deliver_to(self._subscriptions.deliver)

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` when it attaches or detaches, or other replicas come or go."""
        self._changed.append(changed)

    @property
    def settled_at(self) -> float:
        """The time from which a detached replica may use its share.

        Until then the store may count it as attached, and give its share to others.
        """
        return max(self.detached_at, self._claimed_at) + SETTLE_SECONDS

    async def ask(self, command: Callable[[Store], Awaitable[_T]]) -> _T:
        """Return what a command returns; raises StoreError.

        It raises at once while the replica is detached. A command that takes longer
        than COMMAND_SECONDS fails, and detaches it.
        """
        if not self.is_attached:
            raise StoreError(self.fault)
        try:
            return await self._in_time(command(self._store))
        except StoreFullError as error:
            self.errors += 1
            if not self.full:
                _log.warning("store_full", why=str(error))
            self.full, self._full_until = str(error), self._clock() + FULL_SECONDS
            raise
        except StoreError as error:
            self._detach(str(error))
            raise

    async def write(self, command: Callable[[Store], Awaitable[None]]) -> None:
        """Do a command that stores a value; raises StoreError."""
        await self.ask(command)
        if self.full:
            self.full = ""
            _log.info("store_has_room")

    async def follow(self) -> None:
        """Beat until `leave`: attach when the store answers, and stay attached."""
        # Beside the beats: many subscriptions take longer than others wait for a beat.
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._subscriptions.follow())
            await self._follow()
            renewing.cancel()

    async def _follow(self) -> None:
        while not self._has_left:
            self._detached.clear()
            try:
                await self._beat()
                pause = self._pace.answered()
            except StoreError as error:
                self._detach(str(error))
                pause = self._pace.failed()
                if self._pace.is_late and not self._is_reported:
                    self._is_reported = True
                    self._report(self.fault)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._detached.wait()
                    await asyncio.sleep(MIN_PROBE_SECONDS)  # the store has just failed

    async def leave(self) -> None:
        """Make the store forget this replica, if it is attached; never raises."""
        self._has_left = True
        if self.is_attached:
            self.is_attached, self.fault = False, "this replica ends"
            try:
                await self._in_time(self._store.leave(self.id))
            except StoreError:
                return  # the store forgets it by itself

    async def subscribe(self, name: str, handler: Callable[[bytes], None]) -> None:
        """Call `handler` for each value of an entry from now on; never raises.

        It gets no value that is written while the store can't be reached.
        """
        await self._subscriptions.add(name, handler)

    async def unsubscribe(self, name: str) -> None:
        """Call no handler for an entry any more; never raises."""
        await self._subscriptions.remove(name)

    async def _beat(self) -> None:
        was_attached = self.is_attached
        if not was_attached:
            await self._beat_once(is_attached=False)
            if not self._pace.may_attach(self._clock()):
                return
            self._claimed_at = self._clock()
        members = await self._beat_once(is_attached=not self._has_left)
        if self._has_left:  # meanwhile, and this beat may have come after it
            await self._in_time(self._store.leave(self.id))
            return
        if not members.was_known:
            await self._check_forgotten()
        self._is_forgotten = not members.was_known
        if self._clock() > self._full_until:
            self.full = ""
        is_new = members.attached != self.attached or not was_attached
        # Before it counts as attached: calls compute their share meanwhile.
        self.attached, self.replicas = members.attached, members.expected
        if not was_attached or not members.was_known:
            self.is_attached, self.fault, self.full = True, "", ""
            self._is_reported = True
            self.attached_at = self._clock()
            _log.info("store_attached", replicas=members.expected)
            self._subscriptions.renew()
        if is_new or not members.was_known:
            self._notify()

    async def _check_forgotten(self) -> None:
        """Raise StoreError if the store has forgotten this replica again.

        Without memory it may remove everything at once, and so give no tokens either.
        """
        if self._is_forgotten or not self.is_attached:
            await self._beat_once(is_attached=False)
            raise StoreError("it loses its keys: raise its maxmemory")

    async def _beat_once(self, *, is_attached: bool) -> Members:
        beat = self._store.beat(self.id, is_attached=is_attached, known=self.replicas)
        members = await self._in_time(beat)
        self._claimed_at = -inf
        return members

    def _detach(self, why: str) -> None:
        self.errors += 1
        self.fault = why
        if self.is_attached:
            now = self._clock()
            self._pace.detached(now, lasted=now - self.attached_at)
            self.is_attached, self.detached_at = False, now
            self._detached.set()
            self._report(why)
            self._notify()

    def _report(self, why: str) -> None:
        _log.warning("store_detached", why=why, replicas=self.replicas)

    def _notify(self) -> None:
        for changed in self._changed:
            changed()

    async def _in_time(self, work: Awaitable[_T]) -> _T:
        """Return what `work` returns; raises StoreError if that takes too long."""
        running = asyncio.ensure_future(work)
        try:
            for _ in range(TICKS):
                await asyncio.wait((running,), timeout=COMMAND_SECONDS / TICKS)
                if running.done():
                    return running.result()
        finally:
            running.cancel()
        # It may still connect, and fail again for the reason of the last time.
        late = f"it doesn't answer within {COMMAND_SECONDS * 1000:g} ms"
        raise StoreError(self._store.unreached or late)
