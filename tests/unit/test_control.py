"""Messages between two processes over a socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.control import (
    MAX_FRAME_BYTES,
    Control,
    ControlError,
    Handlers,
    Message,
)

SECONDS = 20.0  # that nothing needs
MAX_ASKED = 10


async def echo(message: Message) -> Message:
    """Return the message."""
    return message


async def refuse(_message: Message) -> Message:
    """Refuse the request."""
    raise ControlError("not now")


async def fail(_message: Message) -> Message:
    """Fail as a bug does."""
    raise LookupError


async def hang(_message: Message) -> Message:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


HANDLERS = Handlers(
    answers={"echo": echo, "refuse": refuse, "fail": fail, "hang": hang}
)


@asynccontextmanager
async def connected(
    handlers: Handlers = HANDLERS,
) -> AsyncIterator[tuple[Control, Control]]:
    """Connect two ends; the second has the handlers."""
    ours, theirs = socket.socketpair()
    control = Control(Handlers(), max_asked=MAX_ASKED)
    other = Control(handlers, max_asked=MAX_ASKED)
    tasks = [await control.open(ours), await other.open(theirs)]
    yield control, other
    control.close()
    other.close()
    await asyncio.gather(*tasks)


async def test_requests_are_answered_in_any_order() -> None:
    """Each answer belongs to its request, with its bytes."""
    async with connected() as (control, _):
        hanging = asyncio.create_task(control.ask("hang", seconds=SECONDS))
        sent = Message({"number": 1.5, "text": "é"}, b"\0\xff")
        assert sent == await control.ask("echo", sent, seconds=SECONDS)
        assert not hanging.done()
        control.close()
        with pytest.raises(ControlError, match="the other process has ended"):
            await hanging


async def test_notes_arrive_in_order() -> None:
    """A note has no answer; one that isn't known is ignored."""
    got: list[Message] = []
    handlers = Handlers(notes={"note": got.append}, answers={"echo": echo})
    async with connected(handlers) as (one, _):
        for number in range(3):
            one.note("note", Message(number, b"bytes"))
            one.note("unknown")
        await one.ask("echo", seconds=SECONDS)

    assert [Message(number, b"bytes") for number in range(3)] == got


async def test_refusals_and_failures_are_errors() -> None:
    """A bug is logged, and its text isn't sent; the connection stays open."""
    async with connected() as (control, _):
        with pytest.raises(ControlError, match="not now"):
            await control.ask("refuse", seconds=SECONDS)
        with capture_logs() as logs, pytest.raises(ControlError, match="LookupError"):
            await control.ask("fail", seconds=SECONDS)
        assert Message(1) == await control.ask("echo", Message(1), seconds=SECONDS)

    assert ["control_request_failed"] == [each["event"] for each in logs]


async def test_request_without_an_answer_ends_in_time() -> None:
    """An answer that comes later, or to no request, is ignored."""
    async with connected() as (control, _):
        for name in ("hang", "unknown"):
            with pytest.raises(ControlError, match="no answer within 0 s"):
                await control.ask(name, seconds=0)
            with pytest.raises(ControlError, match="no answer within 0 s"):
                await control.ask("echo", seconds=0)
        assert Message(1) == await control.ask("echo", Message(1), seconds=SECONDS)


async def test_end_of_the_other_process_closes_the_connection() -> None:
    """Requests fail at once from then on, and notes do nothing."""
    async with connected() as (control, other):
        hanging = asyncio.create_task(control.ask("hang", seconds=SECONDS))
        await asyncio.sleep(0)  # until it is asked
        other.close()
        await control.closed.wait()
        control.note("note")
        for asked in (hanging, control.ask("echo", seconds=SECONDS)):
            with pytest.raises(ControlError):
                await asked


async def test_peer_that_does_not_read_is_disconnected() -> None:
    """Messages that aren't read are kept only up to a bound."""
    ours, theirs = socket.socketpair()
    control = Control(Handlers())
    await control.open(ours)
    for _ in range(3):
        assert not control.closed.is_set()
        control.note("note", Message(payload=bytes(MAX_FRAME_BYTES - 100)))

    assert control.closed.is_set()
    theirs.close()


async def test_message_that_is_too_long_is_refused() -> None:
    """It isn't sent, and the connection stays open."""
    async with connected() as (control, _):
        with pytest.raises(ControlError, match="the message has more than"):
            await control.ask(
                "echo", Message(payload=bytes(MAX_FRAME_BYTES)), seconds=1
            )
        assert Message(1) == await control.ask("echo", Message(1), seconds=SECONDS)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(struct.pack("!II", MAX_FRAME_BYTES, 1), id="long"),
        pytest.param(struct.pack("!II", 4, 0) + b"what", id="no-json"),
        pytest.param(struct.pack("!II", 2, 0) + b"[]", id="short"),
        pytest.param(b"\0\0", id="cut"),
    ],
)
async def test_frame_that_is_too_long_ends_the_connection(frame: bytes) -> None:
    """So does one that can't be understood."""
    ours, theirs = socket.socketpair()
    control = Control(Handlers())
    reading = await control.open(ours)
    theirs.sendall(frame)
    theirs.close()
    await reading

    assert control.closed.is_set()


async def test_number_of_requests_is_bounded() -> None:
    """A request beyond the bound fails at once; those that have ended don't count."""
    async with connected() as (control, _):
        for _ in range(MAX_ASKED + 1):
            await control.ask("echo", seconds=SECONDS)
        asked = [
            asyncio.create_task(control.ask("hang", seconds=SECONDS))
            for _ in range(MAX_ASKED)
        ]
        await asyncio.sleep(0)  # until all are asked
        with pytest.raises(ControlError, match="doesn't answer"):
            await control.ask("echo", seconds=SECONDS)
        control.close()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_answers_under_way_are_bounded() -> None:
    """A process that asks too much at once is disconnected."""
    ours, theirs = socket.socketpair()
    control = Control(HANDLERS, max_asked=MAX_ASKED)
    reading = await control.open(ours)
    frame = b'[1,1,"hang",null]'
    frames = (struct.pack("!II", len(frame), 0) + frame) * (MAX_ASKED + 1)
    await asyncio.get_running_loop().sock_sendall(_nonblocking(theirs), frames)
    async with asyncio.timeout(SECONDS):
        await reading

    assert control.closed.is_set()
    theirs.close()


def _nonblocking(sock: socket.socket) -> socket.socket:
    sock.settimeout(0)
    return sock
