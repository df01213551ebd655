"""A real Valkey, and the line to it, which may be slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from testkit.connections import BLOCK_BYTES, HOST, ConnectionServer
from testkit.valkey_server import ValkeyServer, free_port, valkey

SECRET = "a secret of this load: 0123456789abcdef"
# Forged values of 100 MB fit; nothing may fill the machine.
LIMITS = ("--maxmemory", "256mb", "--maxmemory-policy", "noeviction")


class Line:
    """Forwards connections to a port; each block of a client waits `delay_seconds`."""

    def __init__(self, port: int) -> None:
        """Forward to `port`, at first without a delay."""
        self._to = port
        self._server = ConnectionServer(self._talk)
        self.delay_seconds = 0.0

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self._server.port

    async def start(self) -> None:
        """Listen on a free port."""
        await self._server.listen()

    async def stop(self) -> None:
        """Close every connection."""
        await self._server.stop()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await asyncio.open_connection(HOST, self._to)
        blocks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._read(reader, blocks)),
            asyncio.create_task(_write_when_due(blocks, back)),
            asyncio.create_task(_copy(there, writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            back.transport.abort()

    async def _read(
        self,
        reader: asyncio.StreamReader,
        blocks: asyncio.Queue[tuple[float, bytes]],
    ) -> None:
        while block := await reader.read(BLOCK_BYTES):
            blocks.put_nowait((time.monotonic() + self.delay_seconds, block))


async def _write_when_due(
    blocks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
) -> None:
    while True:
        due, block = await blocks.get()
        if (wait_seconds := due - time.monotonic()) > 0:
            await asyncio.sleep(wait_seconds)  # the delay of the line
        writer.write(block)
        await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while block := await reader.read(BLOCK_BYTES):
            writer.write(block)
            await writer.drain()


def settings(port: int, *, replicas: int) -> dict[str, str]:
    """Return the settings of gateways that share the store at a port."""
    return {
        "GATEWAY_SHARED__URL": f"redis://{HOST}:{port}/0",
        "GATEWAY_SHARED__SECRET": SECRET,
        "GATEWAY_SHARED__REPLICAS": str(replicas),
    }


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[ValkeyServer, Line]]:
    """Run Valkey at a port, and the line to it."""
    with valkey(*LIMITS, port=free_port()) as server:
        line = Line(server.port)
        await line.start()
        try:
            yield server, line
        finally:
            await line.stop()
