"""An HTTP proxy that opens CONNECT tunnels to one port, whatever the target is."""

from __future__ import annotations

import asyncio
from typing import Any, Self


class ConnectProxy:
    """Records the targets of its requests; it may refuse them."""

    def __init__(self, port: int, *, status: int = 200) -> None:
        """Open every tunnel to a local port, or answer with another `status`."""
        self.heads: list[str] = []  # of the requests
        self.url = ""
        self._port = port
        self._status = status
        self._held: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._tunnel, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://user:hush@127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every tunnel."""
        self._server.close()
        for task in self._held:
            task.cancel()
        await asyncio.gather(*self._held, return_exceptions=True)

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if task := asyncio.current_task():
            self._held.add(task)
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(f"HTTP/1.1 {self._status} x\r\n\r\n".encode())
            if self._status == 200:
                there, back = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    await asyncio.gather(_copy(reader, back), _copy(there, writer))
                finally:
                    back.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has disconnected
        finally:
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
