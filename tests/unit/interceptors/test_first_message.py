"""The wait for a call's request message, and its limits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpc.aio import EOF

from healthomics_gateway.context import running_task
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.first_message import FirstMessages
from testkit.virtual_time import virtually

PATIENCE_SECONDS = 5.0


def reading(*bodies: bytes) -> Callable[[], Awaitable[Any]]:
    """Return a function that reads these messages, then the end of the stream."""
    left = list(bodies)

    async def read() -> Any:
        return left.pop(0) if left else EOF

    return read


async def message_of(
    messages: FirstMessages, read: Callable[[], Awaitable[Any]]
) -> bytes:
    """Wait for the message of a call that runs in this task."""
    return await messages.message(running_task(), read)


class Silent:
    """A client that begins a call and sends no message."""

    def __init__(self) -> None:
        """Start without a message."""
        self.is_asked = asyncio.Event()

    async def read(self) -> Any:
        """Never return."""
        self.is_asked.set()
        return await asyncio.Future[bytes]()


async def test_first_message_is_read() -> None:
    """Only the first message of a call is read."""
    assert b"1" == await message_of(FirstMessages(), reading(b"1", b"2"))


async def test_call_without_a_message_is_malformed() -> None:
    """A client that ends its call before its message gets MALFORMED_REQUEST."""
    with pytest.raises(GatewayError) as refusal:
        await message_of(FirstMessages(), reading())

    assert Reason.MALFORMED_REQUEST is refusal.value.reason


async def test_late_message_is_not_awaited() -> None:
    """A call whose message is late gets MALFORMED_REQUEST."""
    with pytest.raises(GatewayError) as refusal:
        await message_of(FirstMessages(message_seconds=0.01), Silent().read)

    assert Reason.MALFORMED_REQUEST is refusal.value.reason


def test_every_call_waits_equally_long_for_its_message() -> None:
    """One timer serves all calls, and refuses each at its own time."""

    async def waits() -> list[float]:
        messages = FirstMessages(max_waiting=9, message_seconds=4)
        loop = asyncio.get_running_loop()

        async def waited(pause: float) -> float:
            await asyncio.sleep(pause)  # a call that comes later
            begun = loop.time()
            with pytest.raises(GatewayError):
                await message_of(messages, Silent().read)
            return loop.time() - begun

        return await asyncio.gather(waited(0), waited(2), waited(16))

    assert [4, 4, 4] == virtually(waits)


@pytest.mark.guarantee("overload")
async def test_oldest_waiting_call_is_refused_beyond_the_limit() -> None:
    """Each call beyond the limit ends the call that has waited longest."""
    messages = FirstMessages(max_waiting=2)
    waiting = []
    for _ in range(3):
        silent = Silent()
        waiting.append(asyncio.create_task(message_of(messages, silent.read)))
        await silent.is_asked.wait()
    with pytest.raises(GatewayError) as refusal:
        await asyncio.wait_for(waiting[0], PATIENCE_SECONDS)
    assert Reason.GATEWAY_OVERLOADED is refusal.value.reason
    assert 0.5 <= refusal.value.retry_delay_seconds < 1.5
    assert [False, False] == [each.done() for each in waiting[1:]]
    assert b"4" == await message_of(messages, reading(b"4"))

    with pytest.raises(GatewayError):
        await asyncio.wait_for(waiting[1], PATIENCE_SECONDS)
    waiting[2].cancel()
    await asyncio.gather(waiting[2], return_exceptions=True)
    assert waiting[2].cancelled()


async def test_calls_that_arrive_together_are_answered() -> None:
    """As many calls as may wait for their messages are all answered."""
    messages = FirstMessages(max_waiting=9)

    async def read() -> bytes:
        await asyncio.sleep(0)  # gRPC, too, returns no message at once
        return b"1"

    calls = [asyncio.create_task(message_of(messages, read)) for _ in range(9)]

    assert [b"1"] * 9 == await asyncio.gather(*calls)


async def test_client_that_leaves_waits_no_more() -> None:
    """A cancelled call no longer counts as waiting."""
    messages = FirstMessages(max_waiting=1)
    silent = Silent()
    left = asyncio.create_task(message_of(messages, silent.read))
    await silent.is_asked.wait()
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)

    assert left.cancelled()
    assert b"1" == await message_of(messages, reading(b"1"))
