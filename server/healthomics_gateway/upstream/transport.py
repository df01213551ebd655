"""One HTTP GET: bounded in time and size, never redirected, its failures named."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from healthomics_gateway.net.resolver import Resolver
from healthomics_gateway.upstream.classify import names_error
from healthomics_gateway.upstream.reply import Failure, Reply

MAX_HEADER_BYTES = 8190  # of one line
MAX_HEADERS = 64
KEEP_ALIVE_SECONDS = 15.0
# To end the body of an error that a header has named; never all of an attempt's time.
NAMED_ERROR_BODY_SECONDS = 1.0


class TransportError(Exception):
    """There was no answer: one failure tells why."""

    def __init__(self, failure: Failure) -> None:
        """Tell `failure`."""
        super().__init__(failure.name)
        self.failure = failure


@dataclass(slots=True)
class _Journey:
    """How far one GET has come; aiohttp's errors alone don't tell."""

    depart: Callable[[], Awaitable[None]] | None
    is_connection_new: bool = False
    tls: ssl.SSLObject | None = None  # of a new connection

    @property
    def is_shaking_hands(self) -> bool:
        """Whether the handshake has begun and not ended: TCP isn't at fault."""
        return self.tls is not None and self.tls.version() is None


_journey: ContextVar[_Journey] = ContextVar("_journey")


class Transport:
    """A pool of connections to one endpoint."""

    def __init__(
        self,
        *,
        ca_file: str,
        max_connections: int,
        connect_timeout_seconds: float,
        attempt_timeout_seconds: float,
        max_body_bytes: int,
        proxy: str | None = None,
    ) -> None:
        """Trust the certificates of `ca_file`; make it inside an event loop.

        `proxy` is the URL of an HTTP proxy to open tunnels through.
        """
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._max_body_bytes = max_body_bytes
        tls = _tls_context(ca_file)
        resolver = Resolver()

        def session(**options: Any) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=max_connections,
                    resolver=resolver,
                    socket_factory=_new_socket,
                    ssl=tls,
                    **options,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_field_size=MAX_HEADER_BYTES,
                max_headers=MAX_HEADERS,
                max_line_size=MAX_HEADER_BYTES,
                middlewares=(_replay_nothing,),
                proxy=proxy,
                request_class=_Request,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=connect_timeout_seconds
                ),
            )

        self._kept_alive = session(keepalive_timeout=KEEP_ALIVE_SECONDS)
        self._fresh = session(force_close=True)

    async def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        depart: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        """Return whatever the endpoint answers, or raise TransportError.

        `url` is encoded. A kept-alive connection that proves closed is no failure: the
        GET is sent again on a fresh one. `depart` is awaited whenever the GET is about
        to be sent, on a connection that is ready. Leaving early, by cancellation too,
        closes the connection.
        """
        journey = _Journey(depart)
        token = _journey.set(journey)
        try:
            async with asyncio.timeout(self._attempt_timeout_seconds) as attempt:
                try:
                    return await self._asked(self._kept_alive, url, headers, attempt)
                except _LostError:
                    if journey.is_connection_new:
                        raise
                    return await self._asked(self._fresh, url, headers, attempt)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise TransportError(_failure_of(error, journey)) from error
        finally:
            _journey.reset(token)

    async def close(self) -> None:
        """Close every connection."""
        await self._kept_alive.close()
        await self._fresh.close()

    async def _asked(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        attempt: asyncio.Timeout,
    ) -> Reply:
        async with session.get(
            URL(url, encoded=True), headers=headers, allow_redirects=False
        ) as response:
            return await self._reply(response, attempt)

    async def _reply(
        self, response: aiohttp.ClientResponse, attempt: asyncio.Timeout
    ) -> Reply:
        if names_error(response.headers):
            left = (attempt.when() or 0.0) - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(min(NAMED_ERROR_BODY_SECONDS, left / 2)):
                    body = await self._body(response)
            except TimeoutError:
                body = Failure.TIMEOUT
        else:
            body = await self._body(response)
        if isinstance(body, Failure):
            response.close()  # what is left of the body makes the connection useless
        return Reply(response.status, response.headers, body)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes | Failure:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            return Failure.COMPRESSED
        if (response.content_length or 0) > self._max_body_bytes:
            return Failure.TOO_LARGE
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._max_body_bytes:
                    return Failure.TOO_LARGE
        except aiohttp.ClientError:
            return Failure.CONNECTION
        return bytes(body)


def _failure_of(error: Exception, journey: _Journey) -> Failure:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure.TLS_UNTRUSTED
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure.DNS
    if journey.is_shaking_hands:
        return Failure.TLS
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT
    is_of_proxy = isinstance(error, aiohttp.ClientHttpProxyError)
    if isinstance(error, aiohttp.ClientResponseError) and not is_of_proxy:  # no HTTP
        cause: BaseException | None = error  # what the parser raised lies deep
        while cause and not isinstance(cause, LineTooLong):
            cause = cause.__cause__
        return Failure.TOO_LARGE if cause else Failure.MALFORMED
    return Failure.CONNECTION


class _LostError(aiohttp.ClientError):
    """A connection was lost before its answer began."""


class _Request(aiohttp.ClientRequest):
    """A request that is sent only when it may leave.

    It isn't sent on a connection on which the server has said something already: that
    would pass for its answer.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it, or raise _LostError: a proxy may speak before it hangs up."""
        depart = _journey.get().depart
        if depart and not _is_lost(conn):
            await depart()
        if _is_lost(conn):
            raise _LostError
        return await super().send(conn)


def _is_lost(conn: Connection) -> bool:
    return conn.protocol is None or conn.protocol.should_close


async def _replay_nothing(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from replaying a GET by itself: it does so once for some errors.

    It would also replay what a new connection has lost, unseen by whoever counts the
    calls, and on another one that was kept alive and may be closed as well.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _LostError from error


def _new_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    _journey.get().is_connection_new = True
    family, kind, protocol, *_ = address
    return socket.socket(family, kind, protocol)


class _TlsContext(ssl.SSLContext):
    """Keeps hold of the handshake, which can then be asked whether it ended."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        tls = super().wrap_bio(*args, **kwargs)
        _journey.get().tls = tls
        return tls


@cache  # reading a bundle of authorities takes 40 ms
def _tls_context(ca_file: str) -> ssl.SSLContext:
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    return context
