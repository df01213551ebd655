"""Writes the messages of streams, each within its time and within the unread bytes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import overloaded
from healthomics_gateway.interceptors.send_buffer import SendBuffer

WRITE_SECONDS = 60.0  # for a client to take one message


class Writer:
    """Writes for every stream, of whichever method.

    A write waits for its client's flow control, for as long as the client likes.
    """

    def __init__(
        self,
        unread: SendBuffer,
        *,
        write_seconds: float = WRITE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Count in `unread` what clients haven't taken; wait `write_seconds` for it."""
        self._unread = unread
        self._write_seconds = write_seconds
        self._clock = clock
        self._jitter = jitter

    async def write(self, context: CallContext, message: bytes) -> None:
        """Write an encoded message.

        Raises TimeoutError when the stream's own time is over, and GATEWAY_OVERLOADED
        if its client doesn't read or too much is unread.
        """
        left = context.end - self._clock()
        try:
            with self._unread.writing(context, len(message)):
                async with asyncio.timeout(min(self._write_seconds, left)):
                    await context.rpc.write(message)
        except TimeoutError:
            if left <= self._write_seconds:
                raise
            raise overloaded(self._jitter()) from None
