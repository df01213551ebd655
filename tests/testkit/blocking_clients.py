"""Clients that open streams and then read nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

from load.attacks import ATTACKS

FRAME_HEADER = 9
HEADERS = 1
PATIENCE_SECONDS = 10.0  # for a server to begin its answers


@asynccontextmanager
async def blocking(
    address: str,
    attack: str,
    *,
    streams: int = 1,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Open `streams` of an attack on one connection, without a flow-control window.

    The headers of each have been answered, so the server waits to send a message.
    """
    host, _, port = address.rpartition(":")
    kind = ATTACKS[attack]
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
    try:
        writer.write(kind.greeting + b"".join(islice(kind.units(0), streams)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            begun: set[int] = set()
            while len(begun) < streams:
                head = await reader.readexactly(FRAME_HEADER)
                await reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == HEADERS:
                    begun.add(int.from_bytes(head[5:]))
        yield
    finally:
        writer.transport.abort()
