"""A worker as its supervisor sees it."""

from __future__ import annotations

import asyncio
import socket

from healthomics_gateway.control import Control, Handlers, Message
from healthomics_gateway.workers.pings import MAX_MISSES, Pings
from healthomics_gateway.workers.zygote_link import Exit

MAX_START_MISSES = 60  # pings without an answer while the process starts


class Child:
    """A worker process, from its start to its end."""

    def __init__(self, number: int) -> None:
        """Create the worker of this number, which isn't forked yet."""
        self.number = number
        self.pid = 0
        self.is_serving = False
        self.serving_since = 0.0
        self.content = b""  # of the configuration file, as it uses it
        self.faults: list[str] = []  # of its start
        self.is_frozen = False  # it hasn't answered for so long that it is killed
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.control = Control(Handlers())
        self._pings = Pings()

    async def open(self, handlers: Handlers) -> socket.socket:
        """Create the connection; return the worker's end."""
        ours, theirs = socket.socketpair()
        self.control = Control(handlers)
        await self.control.open(ours)
        return theirs

    def note_serving(self, now: float) -> None:
        """Note that it serves from `now` on."""
        self.is_serving, self.serving_since = True, now
        self._pings.answered()

    def drain(self, seconds: float) -> None:
        """Let it begin a drain of at most `seconds`."""
        self.control.note("drain", Message(seconds))

    def answered(self) -> None:
        """Note that it has answered a ping."""
        self._pings.answered()

    def ping(self) -> bool:
        """Send a ping; return whether too many in a row have had no answer."""
        self.control.note("ping")
        return self._pings.sent(MAX_MISSES if self.is_serving else MAX_START_MISSES)

    def end(self, how: Exit) -> None:
        """Note that the process has ended."""
        self.control.close()
        if not self.ended.done():
            self.ended.set_result(how)
