"""The TCP server of the fakes: it runs a coroutine for each connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Any, Self, TypeAlias

HOST = "127.0.0.1"
BLOCK_BYTES = 65_536

# Serves one connection, which is closed when it returns.
Talk: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]


class ConnectionServer:
    """Runs a coroutine for each connection to a local port."""

    def __init__(
        self, talk: Talk, *, tls: ssl.SSLContext | None = None, backlog: int = 100
    ) -> None:
        """Serve each connection with `talk`, over TLS if there is a context."""
        self._talk = talk
        self._tls = tls
        self._backlog = backlog
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """The URL of the server, without a path."""
        return f"http{'s' if self._tls else ''}://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.listen()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop listening, and close every connection."""
        await self.stop()

    async def listen(self) -> None:
        """Listen on a free port, or on the same one as before."""
        self._server = await asyncio.start_server(
            self._accept, HOST, self.port, ssl=self._tls, backlog=self._backlog
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Accept no further connections; those that are open stay open."""
        self._server.close()

    async def stop(self) -> None:
        """Stop listening, and close every connection."""
        self.stop_listening()
        await cancel(self._tasks)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has disconnected
        finally:
            writer.close()


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their end."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    port: int,
    source: str = HOST,
    silent_seconds: float = inf,
) -> None:
    """Forward a connection to a local port from the address `source`, both ways.

    It ends if nothing comes from that port for `silent_seconds`.
    """
    there, back = await asyncio.open_connection(HOST, port, local_addr=(source, 0))
    try:
        await asyncio.gather(
            _copy(reader, back), _copy(there, writer, silent_seconds=silent_seconds)
        )
    except TimeoutError:
        pass  # it was silent for too long
    finally:
        back.transport.abort()


async def _copy(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    silent_seconds: float = inf,
) -> None:
    while block := await asyncio.wait_for(
        reader.read(BLOCK_BYTES), None if silent_seconds == inf else silent_seconds
    ):
        writer.write(block)
        await writer.drain()
    writer.close()
