"""An HTTP server of pages: few connections, each for a short time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.net.addresses import Address
from healthomics_gateway.net.hosts import addresses_to_bind, why_not_bound

MAX_CONNECTIONS = 32
CONNECTION_SECONDS = 5.0  # for one request and its response
STOP_SECONDS = 0.1  # for responses under way when the server stops

Page: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.Response]]

_log = logging.getLogger("admin")


class AdminServer:
    """Serves pages by their paths, each connection for one request."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        max_connections: int = MAX_CONNECTIONS,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:
        """Serve `pages`, without listening yet."""
        self._pages = pages
        self._max_connections = max_connections
        self._connection_seconds = connection_seconds
        self._runner: web.ServerRunner | None = None

    async def listen(self, address: Address) -> Address:
        """Listen on the address `admin_listen`; return it with its real port.

        Raises ConfigurationError with the fault if it can't be bound.
        """
        try:
            (first, *others), port = await addresses_to_bind(address.host, address.port)
            return Address(address.host, await self.start(first, port, *others))
        except OSError as error:
            fault = f"admin_listen {address}: {why_not_bound(error)}"
            raise ConfigurationError(fault) from None

    async def start(self, host: str, port: int, *others: str) -> int:
        """Listen on these hosts and return the port; raises OSError if that fails."""
        connections = _Connections(
            self._answer,
            most=self._max_connections,
            seconds=self._connection_seconds,
        )
        self._runner = web.ServerRunner(connections, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        # All connections in the backlog are accepted at once, so keep it short.
        for each in (host, *others):
            site = web.TCPSite(self._runner, each, port, backlog=self._max_connections)
            await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        if self._runner:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        make = self._pages.get(request.path)
        if make is None:
            response = web.Response(status=404)
        elif request.method not in ("GET", "HEAD"):
            response = web.Response(status=405, headers={"Allow": "GET, HEAD"})
        else:
            response = await make(request)
        response.force_close()  # an idle connection would count towards the limit
        return response


def text_lines(lines: list[str], *, status: int) -> web.Response:
    """Return a page of plain text with these lines."""
    text = "".join(f"{line}\n" for line in lines)
    body = text.encode(errors="backslashreplace")  # paths may have bytes beyond UTF-8
    return web.Response(
        body=body, content_type="text/plain", charset="utf-8", status=status
    )


class _Connections(web.Server):
    """The HTTP server; it closes the oldest connection if there are too many."""

    def __init__(self, handler: Any, *, most: int, seconds: float) -> None:
        super().__init__(
            handler,
            request_factory=self._request,
            access_log=None,
            auto_decompress=False,  # no page reads a body
            logger=_log,
        )
        self._most = most
        self._seconds = seconds
        self._timers: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def _request(self, message: RawRequestMessage, *others: Any) -> web.BaseRequest:
        """Create a request without the host in its URL.

        No page needs the host, and aiohttp drops a request whose host it can't decode.
        """
        if message.url.absolute:
            message = message._replace(url=message.url.relative())
        return self._make_request(message, *others)

    def connection_made(
        self, handler: web.RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Accept it for a limited time; abort the oldest if there are too many."""
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        self._timers[handler] = loop.call_later(self._seconds, transport.abort)
        for oldest in list(self._timers)[: -self._most]:
            if oldest.transport:
                oldest.transport.abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Cancel the timer of the connection."""
        super().connection_lost(handler, exc)
        self._timers.pop(handler).cancel()


def _is_own_event(record: logging.LogRecord) -> bool:
    """Return whether an event isn't about a malformed request of a client."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


_log.addFilter(_is_own_event)
