"""The time limit for a stream's message, and the bytes that it counts for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.send_buffer import STREAM_BYTES, SendBuffer
from healthomics_gateway.interceptors.stream_writer import Writer
from testkit.serving import call_context
from testkit.virtual_time import virtually

MESSAGE = b"x" * 1000


class Stream:
    """A stream whose client reads each message after so many seconds."""

    def __init__(self, *, seconds: float) -> None:
        """Start with no message written."""
        self._seconds = seconds
        self.written: list[bytes] = []

    async def write(self, message: bytes) -> None:
        """Write as gRPC does."""
        await asyncio.sleep(self._seconds)
        self.written.append(message)


def exchange(stream: Stream, peer: str = "a") -> CallContext:
    """Return the context of a stream that runs in this task."""
    return call_context(rpc=stream, peer=peer)


def writer(unread: SendBuffer) -> Writer:
    """Return a writer that waits a minute, on the event loop's clock."""
    clock = asyncio.get_running_loop().time
    return Writer(unread, write_seconds=60.0, clock=clock, jitter=lambda: 0.0)


def test_message_counts_until_it_is_written() -> None:
    """A message counts as unread until it is written."""

    async def work() -> Any:
        unread, stream = SendBuffer(), Stream(seconds=1)
        writing = asyncio.create_task(
            writer(unread).write(exchange(stream), MESSAGE),
        )
        await asyncio.sleep(0.5)
        meanwhile = unread.kept_bytes
        await writing
        return meanwhile, unread.kept_bytes, stream.written

    assert (len(MESSAGE), 0, [MESSAGE]) == virtually(work)


@pytest.mark.parametrize(
    ("left", "error", "at"),
    [(2.0, TimeoutError, 1002.0), (600.0, GatewayError, 1060.0)],
)
def test_message_that_is_not_read_ends_its_stream(
    left: float, error: type[Exception], at: float
) -> None:
    """A write ends after a minute or with its stream; it counts until gRPC frees it."""

    async def work() -> Any:
        unread, loop = SendBuffer(), asyncio.get_running_loop()

        async def stream() -> float:
            call = exchange(Stream(seconds=3600))
            call.end = loop.time() + left
            with pytest.raises(error):
                await writer(unread).write(call, MESSAGE)
            ended = loop.time()
            await asyncio.sleep(10)  # gRPC waits to send the status
            return ended

        task = asyncio.create_task(stream())
        await asyncio.sleep(65)
        kept = unread.kept_bytes
        ended = await task
        await asyncio.sleep(0)
        return ended, kept if left > 60 else 0, unread.kept_bytes

    kept = STREAM_BYTES + len(MESSAGE) if error is GatewayError else 0
    assert (at, kept, 0) == virtually(work)


@pytest.mark.guarantee("unread-watches")
def test_message_beyond_the_unread_limit_is_refused() -> None:
    """Beyond the limit only a connection over its share is refused."""

    async def work() -> Any:
        unread = SendBuffer(max_bytes=2500, max_share_bytes=1500)
        slow = Stream(seconds=10)
        write = writer(unread).write
        held = [asyncio.create_task(write(exchange(slow), MESSAGE)) for _ in range(2)]
        await asyncio.sleep(1)
        with pytest.raises(GatewayError) as refusal:
            await write(exchange(slow), MESSAGE)
        await write(exchange(Stream(seconds=0), "b"), MESSAGE)
        await asyncio.gather(*held)
        return refusal.value.reason, unread.kept_bytes

    assert (Reason.GATEWAY_OVERLOADED, 0) == virtually(work)
