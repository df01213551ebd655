"""The entries of a store whose values a replica gets as soon as they are written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from healthomics_gateway.shared.store import Store, StoreError

AT_ONCE = 100  # subscriptions that are renewed together

_Command: TypeAlias = Callable[[Store], Awaitable[None]]


class Subscriptions:
    """The handlers of entries, and the subscriptions to these at the store.

    The store loses them while it can't be reached, so they are made again afterwards.
    """

    def __init__(self, ask: Callable[[_Command], Awaitable[None]]) -> None:
        """Begin without any; `ask` sends a command, and raises StoreError."""
        self._ask = ask
        self._handlers: dict[str, Callable[[bytes], None]] = {}  # by name
        self._is_forgotten = asyncio.Event()

    async def add(self, name: str, handler: Callable[[bytes], None]) -> None:
        """Call `handler` for each value of an entry from now on; never raises."""
        self._handlers[name] = handler
        await self._try(lambda store: store.subscribe(name))

    async def remove(self, name: str) -> None:
        """Call no handler for an entry any more; never raises."""
        self._handlers.pop(name, None)
        await self._try(lambda store: store.unsubscribe(name))

    def deliver(self, name: str, value: bytes) -> None:
        """Pass a value on to its handler."""
        if handler := self._handlers.get(name):
            handler(value)

    def renew(self) -> None:
        """Let `follow` subscribe to all entries again."""
        self._is_forgotten.set()

    async def follow(self) -> None:
        """Renew all subscriptions after each call of `renew`, until cancelled."""
        while True:
            await self._is_forgotten.wait()
            self._is_forgotten.clear()
            try:
                await self._subscribe_to_all()
            except* StoreError:
                pass  # it is done again when the replica attaches

    async def _subscribe_to_all(self) -> None:
        names = tuple(self._handlers)
        for at in range(0, len(names), AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for name in names[at : at + AT_ONCE]:
                    if name in self._handlers:  # it may have been removed meanwhile
                        group.create_task(self._subscribe(name))

    async def _subscribe(self, name: str) -> None:
        await self._ask(lambda store: store.subscribe(name))

    async def _try(self, command: _Command) -> None:
        try:
            await self._ask(command)
        except StoreError:
            return  # it is done again when the replica attaches
