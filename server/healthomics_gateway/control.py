"""Messages between two processes over a socket that both have, in both directions.

A frame is two sizes of four bytes, then a header in JSON, then bytes that aren't
interpreted.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

import orjson
import structlog

MAX_FRAME_BYTES = 16_777_216
MAX_UNREAD_BYTES = 2 * MAX_FRAME_BYTES  # that the other side hasn't read
MAX_ASKED = 65_536  # requests without an answer, in each direction

_SIZES = struct.Struct("!II")  # of the header and of the payload
_NOTE, _ASK, _ANSWER, _FAILURE = range(4)

_log = structlog.get_logger("control")


class ControlError(Exception):
    """The other side hasn't answered as asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a JSON value, and bytes."""

    data: Any = None
    payload: bytes = b""


Note: TypeAlias = Callable[[Message], None]
Answer: TypeAlias = Callable[[Message], Awaitable[Message]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What to do with the messages of the other side, by their names."""

    notes: Mapping[str, Note] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


class Control:
    """One end of the connection. Names that the other side doesn't know are ignored."""

    def __init__(self, handlers: Handlers, *, max_asked: int = MAX_ASKED) -> None:
        """Create it; `open` connects it."""
        self._max_asked = max_asked
        self._handlers = handlers
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None  # the loop doesn't keep it
        self.closed = asyncio.Event()

    async def open(self, sock: socket.socket) -> asyncio.Task[None]:
        """Use a connected socket; return the task that reads it until it is closed."""
        reader, self._writer = await asyncio.open_connection(sock=sock)
        self._reading = asyncio.create_task(self._run(reader), name="control")
        return self._reading

    def note(self, name: str, message: Message = Message()) -> None:
        """Send a message that has no answer; do nothing if the connection is closed."""
        self._send(_NOTE, 0, name, message)

    async def ask(
        self, name: str, message: Message = Message(), *, seconds: float
    ) -> Message:
        """Return the answer to a message; raises ControlError if none comes in time."""
        if self.closed.is_set() or len(self._asked) >= self._max_asked:
            raise ControlError(f"{name}: the other process doesn't answer")
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(_ASK, number, name, message)
            async with asyncio.timeout(seconds):
                return await self._asked[number]
        except TimeoutError:
            raise ControlError(f"{name}: no answer within {seconds:g} s") from None
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Close the connection; requests without an answer raise ControlError."""
        if self.closed.is_set():
            return
        self.closed.set()
        if self._writer:
            self._writer.transport.abort()
        for each in self._answering:
            each.cancel()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ControlError("the other process has ended"))

    def _send(self, kind: int, number: int, name: str, message: Message) -> None:
        if self._writer is None or self.closed.is_set():
            return
        header = orjson.dumps([kind, number, name, message.data])
        sizes = len(header), len(message.payload)
        if sum(sizes) > MAX_FRAME_BYTES:
            raise ControlError(
                f"{name}: the message has more than {MAX_FRAME_BYTES} bytes"
            )
        # Not `drain`: a process that doesn't read must not delay this one.
        self._writer.write(_SIZES.pack(*sizes) + header + message.payload)
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.close()

    async def _run(self, reader: asyncio.StreamReader) -> None:
        try:
            with suppress(OSError, EOFError, ValueError, ControlError):
                while True:
                    self._handle(*await _frame(reader))
        finally:
            self.close()

    def _handle(self, kind: int, number: int, name: str, message: Message) -> None:
        if kind == _NOTE:
            if note := self._handlers.notes.get(name):
                note(message)
        elif kind == _ASK:
            if len(self._answering) >= self._max_asked:
                raise ControlError(name)
            task = asyncio.create_task(self._answer(number, name, message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (asked := self._asked.get(number)) and not asked.done():
            if kind == _ANSWER:
                asked.set_result(message)
            else:
                asked.set_exception(ControlError(str(message.data)))

    async def _answer(self, number: int, name: str, message: Message) -> None:
        answer = self._handlers.answers.get(name)
        if answer is None:
            return
        try:
            self._send(_ANSWER, number, name, await answer(message))
        except ControlError as error:
            self._send(_FAILURE, number, name, Message(str(error)))
        except Exception as error:  # noqa: BLE001  # it must not end the connection
            _log.exception("control_request_failed", request=name)
            self._send(_FAILURE, number, name, Message(type(error).__name__))


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, str, Message]:
    """Read a frame: kind, number, name and message. Raises ControlError."""
    of_header, of_payload = _SIZES.unpack(await reader.readexactly(_SIZES.size))
    if of_header + of_payload > MAX_FRAME_BYTES:
        raise ControlError("the frame is too long")
    kind, number, name, data = orjson.loads(await reader.readexactly(of_header))
    return kind, number, name, Message(data, await reader.readexactly(of_payload))
