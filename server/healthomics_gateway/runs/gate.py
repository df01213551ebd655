"""Where requests wait for a token before they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


def nothing() -> None:
    """Do nothing."""


class Gate:
    """Lets one request be sent for each token, in the order of arrival.

    A request that is cancelled while it waits takes no token.
    """

    def __init__(
        self, take: Callable[[], bool], *, wait: Callable[[], Awaitable[None]]
    ) -> None:
        """Take tokens with `take`, if there are any; `wait` waits for one."""
        self._take = take
        self._wait = wait
        self._order = asyncio.Lock()
        self.opened: Callable[[], None] = nothing  # is called when no request waits
        self.waiting = 0

    async def depart(self) -> None:
        """Wait until the request may be sent; the caller must send it at once."""
        if not self.waiting and self._take():
            return
        self.waiting += 1
        try:
            async with self._order:  # an asyncio lock is first come, first served
                while not self._take():
                    await self._wait()
        finally:
            self.waiting -= 1
            if not self.waiting:
                self.opened()
