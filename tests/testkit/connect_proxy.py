"""An HTTP proxy that opens CONNECT tunnels to one port, whatever the target is."""

from __future__ import annotations

import asyncio
from typing import Self

from testkit.connections import HOST, ConnectionServer, forward


class ConnectProxy:
    """Records the targets of its requests; it may refuse them."""

    def __init__(self, port: int, *, status: int = 200) -> None:
        """Open every tunnel to a local port, or answer with another `status`."""
        self.heads: list[str] = []  # of the requests
        self.url = ""
        self._port = port
        self._status = status
        self._server = ConnectionServer(self._tunnel)

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self._server.listen()
        self.url = f"http://user:hush@{HOST}:{self._server.port}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every tunnel."""
        await self._server.stop()

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self._status} x\r\n\r\n".encode())
        if self._status == 200:
            await forward(reader, writer, port=self._port)
