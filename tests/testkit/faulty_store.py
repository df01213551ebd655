"""A store with latency and faults, and a fleet of replicas that share it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from healthomics_gateway.shared.local import LocalStore
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.store import Reservation, StoreError, StoreFullError


class FaultyStore:
    """One replica's access to a store; the methods are those of `Store`.

    A command reaches the store after half of the latency, even if nobody waits for it
    any more, and its answer arrives after the other half.
    """

    unreached = ""

    def __init__(
        self,
        memory: Callable[[], MemoryStore],
        *,
        latency: Callable[[], float] = lambda: 0.0,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Ask the store that `memory` returns, unless it is gone."""
        self._memory = memory
        self._latency = latency
        self._is_gone = is_gone
        self._late: set[asyncio.Task[Any]] = set()
        self.commands: Counter[str] = Counter()
        self.is_full = False
        self.gives_all = False  # tokens to everybody

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a command of the store."""

        async def command(*args: Any, **kwargs: Any) -> Any:
            self.commands[name] += 1
            if self._is_gone():
                raise StoreError("it can't be reached")
            if self.is_full and name == "reserve":
                raise StoreFullError("it is full")
            if self.gives_all and name == "reserve":
                return Reservation(0.0, 1e9)
            seconds = self._latency()
            if not seconds:
                return await getattr(LocalStore(self._memory()), name)(*args, **kwargs)
            work = asyncio.create_task(self._later(seconds, name, args, kwargs))
            self._late.add(work)
            work.add_done_callback(self._done)
            return await asyncio.shield(work)

        return command

    def deliver_to(self, deliver: Callable[[str, bytes], None]) -> None:
        """Deliver nothing."""

    def _done(self, work: asyncio.Task[Any]) -> None:
        self._late.discard(work)
        if not work.cancelled():
            work.exception()  # it is retrieved, although nobody may wait for it

    async def _later(self, seconds: float, name: str, args: Any, kwargs: Any) -> Any:
        await asyncio.sleep(seconds / 2)
        if self._is_gone():
            raise StoreError("it can't be reached")
        answer = await getattr(LocalStore(self._memory()), name)(*args, **kwargs)
        await asyncio.sleep(seconds / 2)
        return answer
