"""Run attacks on a gateway, at a limited rate, for a limited time."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from hyperframe.frame import HeadersFrame, RstStreamFrame

from load.attacks import ATTACKS, UNKNOWN_CALLERS, Attack

MOST_SECONDS = 60.0
TICK_SECONDS = 0.005  # between two bursts
AGAIN_SECONDS = 0.02  # before a closed connection is opened again
MOST_BURST = 1000  # units sent at once, after a pause
BLOCK = 65_536
FRAME_HEADER, END_STREAM = 9, 1


class Attacker:
    """A running attack."""

    def __init__(self, attack: Attack, address: str, *, again: bool = True) -> None:
        """Prepare an attack; a connection that the gateway closes is opened `again`."""
        self._attack = attack
        self._again = again
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self.begun = asyncio.Event()  # set when all connections are open
        self.sent = 0  # units
        self.opened = 0  # connections
        self.closed = 0  # connections that the gateway closed

    async def run(self, seconds: float) -> None:
        """Attack for this time; then close every connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for number in range(self._attack.connections):
                    group.create_task(self._go_on(number))

    async def _go_on(self, number: int) -> None:
        """Attack on one connection, and on a new one when it is closed."""
        while True:
            source = f"127.1.0.{number % self._attack.sources + 1}"
            reader, writer = await asyncio.open_connection(
                self._host,
                self._port,
                local_addr=(source, 0) if self._attack.sources > 1 else None,
            )
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
            await asyncio.sleep(AGAIN_SECONDS)  # limits how often it connects

    async def _on(
        self, reader: StreamReader, writer: StreamWriter, number: int
    ) -> None:
        """Send all units and wait, until the gateway closes the connection."""
        if not self._attack.is_reading:
            writer.write(self._attack.greeting)
            await self._send(writer, number, _Window(None))
            await asyncio.Future[None]()
        window = _Window(self._attack.in_hand)
        send = self._send_as_answered if self._attack.in_hand else self._send
        sending = asyncio.create_task(send(writer, number, window))
        try:
            writer.write(self._attack.greeting)
            while block := await reader.read(BLOCK):
                window.read(block)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_as_answered(
        self, writer: StreamWriter, number: int, window: _Window
    ) -> None:
        """Send as fast as units end, as many at a time as the connection may have."""
        units = self._attack.units(number)
        while True:
            burst = list(islice(units, await window.wait()))
            writer.write(b"".join(burst))
            await writer.drain()
            self.sent += len(burst)

    async def _send(self, writer: StreamWriter, number: int, _window: _Window) -> None:
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
            await asyncio.sleep(TICK_SECONDS)  # keeps the average rate


class _Window:
    """The number of units that a connection may still send; each end adds one."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._open: set[int] = set()
        self._next = 1
        self._unread = b""
        self._freed = asyncio.Event()

    async def wait(self) -> int:
        """Wait until units may be sent, and return their number."""
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
        """Count the streams that end, by a flag or by a reset."""
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
    if options.rate and math.isfinite(options.rate):  # not at the rate of the answers
        attack = replace(attack, rate=options.rate, in_hand=None)
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
    print(line, flush=True)  # noqa: T201  # read by the process that started this one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one attack as a separate program and print its results as JSON."""
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
