"""An aiohttp session whose requests wait for their turn and are never replayed.

aiohttp's errors don't show whether a connection was new or its handshake had ended. So
each GET has a `GetProgress` in a context variable, where both are recorded.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from healthomics_gateway.net.resolver import Resolver

MAX_HEADER_BYTES = 8190  # of one line
MAX_HEADERS = 64


@dataclass(slots=True)
class GetProgress:
    """The progress of one GET: aiohttp's errors alone don't show it."""

    depart: Callable[[], Awaitable[None]] | None
    is_connection_new: bool = False
    tls: ssl.SSLObject | None = None  # of a new connection

    @property
    def is_in_handshake(self) -> bool:
        """Return whether the TLS handshake is under way, so TCP has succeeded."""
        return self.tls is not None and self.tls.version() is None


current_get: ContextVar[GetProgress] = ContextVar("current_get")


class ConnectionLostError(aiohttp.ClientError):
    """A connection was lost before its response began."""


def new_session(
    *,
    ca_file: str,
    connect_timeout_seconds: float,
    proxy: str | None,
    resolver: Resolver,
    **connector: Any,
) -> aiohttp.ClientSession:
    """Create a session; `connector` has the other options of its TCPConnector."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=resolver,
            socket_factory=_new_socket,
            ssl=_tls_context(ca_file),
            **connector,
        ),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
        max_line_size=MAX_HEADER_BYTES,
        middlewares=(_prevent_replay,),
        proxy=proxy,
        request_class=_Request,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_seconds),
    )


class _Request(aiohttp.ClientRequest):
    """A request that is sent when its turn comes, if its connection is still usable.

    Bytes that the server has sent before the request would be taken for its response.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it, or raise ConnectionLostError: a proxy may send before it closes."""
        depart = current_get.get().depart
        if depart and not _is_lost(conn):
            await depart()
        if _is_lost(conn):
            raise ConnectionLostError
        return await super().send(conn)


def _is_lost(conn: Connection) -> bool:
    return conn.protocol is None or conn.protocol.should_close


async def _prevent_replay(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Replace the errors after which aiohttp would send a GET once more by itself.

    Such a request wouldn't count towards the rate limit. It would also follow the loss
    of a new connection, and could be sent on another one that is closed already.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionLostError from error


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    current_get.get().is_connection_new = True
    family, kind, protocol, *_ = address
    return socket.socket(family, kind, protocol)


class _TlsContext(ssl.SSLContext):
    """A TLS context that records each handshake, so that its end can be checked."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        tls = super().wrap_bio(*args, **kwargs)
        current_get.get().tls = tls
        return tls


@cache  # reading a CA bundle takes 40 ms
def _tls_context(ca_file: str) -> ssl.SSLContext:
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    return context
