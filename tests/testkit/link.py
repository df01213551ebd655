"""A TCP proxy whose connections a test can cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import Self

from testkit.connections import ConnectionServer, forward


class Link:
    """A TCP proxy to a local port, which can close its connections."""

    def __init__(self, port: int, *, silent_seconds: float = inf) -> None:
        """Forward to a local port. Changing `port` affects new connections only.

        A connection is closed if its server sends nothing for `silent_seconds`.
        """
        self.port = port
        self.server = ConnectionServer(self._talk)
        self._silent_seconds = silent_seconds
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.server.listen()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop listening, and close every connection."""
        await self.server.stop()

    async def cut(self) -> None:
        """Close the connections, without an error to either side, and listen again."""
        await self.server.stop()
        await self.server.listen()

    def reset(self) -> None:
        """Reset the connections of clients, as a firewall does (RST)."""
        for each in self._writers:
            each.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            each.transport.abort()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        try:
            await forward(
                reader, writer, port=self.port, silent_seconds=self._silent_seconds
            )
        finally:
            self._writers.discard(writer)
