"""Writes the messages of streams, with a time limit and a limit on unread bytes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import overloaded
from healthomics_gateway.interceptors.send_buffer import SendBuffer

WRITE_SECONDS = 60.0  # for a client to read one message


class Writer:
    """Writes the messages of every stream, of any method.

    A write waits for the client's flow control, which a client can stop for ever.
    """

    def __init__(
        self,
        send_buffer: SendBuffer,
        *,
        write_seconds: float = WRITE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Count messages in `send_buffer`; allow `write_seconds` to write each."""
        self._send_buffer = send_buffer
        self._write_seconds = write_seconds
        self._clock = clock
        self._jitter = jitter

    async def write(self, call: CallContext, message: bytes) -> None:
        """Write an encoded message.

        Raises TimeoutError when the stream's time limit is over, and GATEWAY_OVERLOADED
        if its client doesn't read, or if too many bytes are unread.
        """
        left = call.end - self._clock()
        try:
            with self._send_buffer.writing(call, len(message)):
                async with asyncio.timeout(min(self._write_seconds, left)):
                    await call.rpc.write(message)
            if call.messages:
                call.messages.sent()
        except TimeoutError:
            if left <= self._write_seconds:
                raise
            raise overloaded(self._jitter()) from None
